# SPDX-License-Identifier: MIT
"""Copies from the hub are read in their real layouts, and what is wrong with one is told in one sentence."""

import dataclasses
import hashlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from compendium.worlds import offline
from compendium.worlds.clip import copies, hub, registry
from compendium.worlds.clip.options import Options
from compendium.worlds.clip.registry import Task
from tsvlib.errors import InputError

from . import real_snapshots

FIRST = Options()
LETTERS = Options(emnist="letters")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and a hub that nobody serves."""
    monkeypatch.setenv("TSV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for switch in offline.SWITCHES:
        monkeypatch.delenv(switch, raising=False)
    return tmp_path / "cache"


def task_of(name: str, pool: int = 20, test: int = 7, options: Options = FIRST) -> Task:
    return real_snapshots.small(registry.with_options(registry.tasks()[name], options), pool, test)


@pytest.mark.parametrize("name", [name for name in registry.tasks() if name != "EMNIST"])
def test_each_copy_gives_its_images_and_our_labels(tmp_path: Path, name: str) -> None:
    task = task_of(name)
    real_snapshots.write_copy(task, tmp_path)
    assert hub.look(task, tmp_path).state == "present"
    for part, count in (("pool", copies.as_published(task).pool), ("test", task.test)):
        found = hub.open_part(task, tmp_path, part, FIRST)  # type: ignore[arg-type]
        split = {"pool": "train"}.get(part, real_snapshots.TESTS.get(name, "test"))
        assert list(found.names) == [f"{split}/{row}" for row in range(count)]
        assert found.image(3).size == real_snapshots.picture(3).size
        theirs = real_snapshots.NAMES.get(name) or task.classes
        known = dict(task.also)
        for row in range(count):
            word = theirs[row % len(task.classes)]
            ours = task.classes[int(found.labels[row])]
            assert ours == known.get(word, ours)
            if name not in real_snapshots.NAMES:
                assert ours == word


def test_images_are_those_of_the_file_in_rgb(tmp_path: Path) -> None:
    task = task_of("CIFAR10")
    real_snapshots.write_copy(task, tmp_path)
    found = hub.open_part(task, tmp_path, "pool", FIRST)
    for row in (0, 11, 19):
        assert np.array_equal(np.asarray(found.image(row)), np.asarray(real_snapshots.picture(row)))
    faces = task_of("FER2013")
    real_snapshots.write_copy(faces, tmp_path)
    assert hub.open_part(faces, tmp_path, "test", FIRST).image(0).mode == "RGB"


def test_labels_of_faces_go_by_their_names(tmp_path: Path) -> None:
    task = task_of("FER2013")
    real_snapshots.write_copy(task, tmp_path)
    for options in (FIRST, Options(fer2013_names="words")):
        labels = hub.open_part(registry.with_options(task, options), tmp_path, "pool", options).labels
        assert labels[:7].tolist() == [0, 1, 2, 3, 6, 4, 5]


def test_archives_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    task = task_of("FER2013", pool=24)
    place = real_snapshots.write_copy(task, tmp_path)
    files = copies.files_of(task, "pool", copies.listed(place))
    assert files == [f"train/{number}.tar" for number in range(11)]
    found = hub.open_part(task, tmp_path, "pool", FIRST)
    assert [found.image(row).size for row in range(24)] == [real_snapshots.picture(row).size for row in range(24)]


def test_letters_can_be_turned_upright(tmp_path: Path) -> None:
    task = task_of("EMNIST", pool=26, options=LETTERS)
    real_snapshots.write_copy(task, tmp_path)
    lying = hub.open_part(task, tmp_path, "pool", LETTERS)
    upright = hub.open_part(task, tmp_path, "pool", dataclasses.replace(LETTERS, emnist_upright=True))
    assert lying.labels.tolist() == list(range(26))
    assert np.array_equal(np.asarray(upright.image(5)), np.asarray(lying.image(5)).transpose(1, 0, 2))


def test_other_parts_and_versions_in_a_copy_are_left_alone(tmp_path: Path) -> None:
    task = task_of("SVHN")
    place = real_snapshots.write_copy(task, tmp_path)
    names = list(task.classes)
    real_snapshots.write_tables(task, place, "extra", 5, names)
    (place / "cropped_digits").rename(place / "kept")
    real_snapshots.write_tables(task, place, "train", 9, names)
    (place / "cropped_digits").rename(place / "full_numbers")
    (place / "kept").rename(place / "cropped_digits")
    (place / ".cache").mkdir()
    (place / ".cache" / "train-00000-of-00001.parquet").write_bytes(b"")
    assert hub.look(task, tmp_path).state == "present"
    assert len(hub.open_part(task, tmp_path, "pool", FIRST).labels) == 20


def test_classes_that_cannot_be_matched_are_refused(tmp_path: Path) -> None:
    task = task_of("STL10")
    real_snapshots.write_copy(task, tmp_path, [*task.classes[:-1], "lorry"])
    with pytest.raises(InputError, match="its class 'lorry' is none of STL-10"):
        hub.open_part(task, tmp_path, "pool", FIRST)
    real_snapshots.write_copy(task, tmp_path, [*task.classes[:-1], "Airplane"])
    with pytest.raises(InputError, match="its 10 classes are not the 10 of STL-10, each once"):
        hub.open_part(task, tmp_path, "pool", FIRST)


def test_names_in_another_order_change_labels(tmp_path: Path) -> None:
    task = task_of("STL10")
    real_snapshots.write_copy(task, tmp_path, [*task.classes[::-1]])
    assert hub.open_part(task, tmp_path, "pool", FIRST).labels[:10].tolist() == list(range(10))[::-1]


def test_names_that_are_numbers_say_nothing(tmp_path: Path) -> None:
    task = task_of("STL10")
    real_snapshots.write_copy(task, tmp_path, [str(number) for number in range(10)])
    assert hub.open_part(task, tmp_path, "pool", FIRST).labels[:10].tolist() == list(range(10))


def test_a_changed_copy_is_unpacked_again(tmp_path: Path) -> None:
    task = task_of("STL10")
    place = real_snapshots.write_copy(task, tmp_path)
    hub.open_part(task, tmp_path, "pool", FIRST)
    for file in (place / "data").iterdir():
        file.unlink()
    real_snapshots.write_copy(real_snapshots.small(task, 12, 7), tmp_path)
    assert len(hub.open_part(task, tmp_path, "pool", FIRST).labels) == 12


def rewrite(file: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    parquet.write_table(change(parquet.read_table(file)), file)


def first(place: Path) -> Path:
    return place / "data" / "train-00000-of-00002.parquet"


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    task = task_of("STL10")
    place = real_snapshots.write_copy(task, tmp_path)

    def damage(table: pa.Table) -> pa.Table:
        images = table["image"].to_pylist()
        images[2]["bytes"] = images[2]["bytes"][:60]
        images[3]["bytes"] = None
        kind = table.schema.field("image").type
        return table.set_column(0, table.schema.field("image"), pa.array(images, kind))

    rewrite(first(place), damage)
    found = hub.open_part(task, tmp_path, "pool", FIRST)
    with pytest.raises(InputError, match="image train/2 cannot be decoded; fetch the copy again"):
        found.image(2)
    with pytest.raises(InputError, match="image train/3 is not in the file"):
        found.image(3)
    found.image(4)


def test_labels_out_of_range_and_unknown_columns_are_told(tmp_path: Path) -> None:
    task = task_of("STL10")
    place = real_snapshots.write_copy(task, tmp_path)
    for file in (place / "data").iterdir():
        plain = parquet.read_table(file).replace_schema_metadata(None)
        parquet.write_table(plain.set_column(1, "label", pa.array([11] * len(plain))), file)
    with pytest.raises(InputError, match="a label is not in 0 to 9"):
        hub.open_part(task, tmp_path, "pool", FIRST)
    for file in (place / "data").iterdir():
        plain = parquet.read_table(file)
        parquet.write_table(plain.set_column(1, "label", pa.array(["cat"] * len(plain))), file)
    with pytest.raises(InputError, match="labels are no whole numbers"):
        hub.open_part(task, tmp_path, "pool", FIRST)
    for file in (place / "data").iterdir():
        rewrite(file, lambda table: table.rename_columns(["picture", "label"]))
    with pytest.raises(InputError, match="no column 'image' or 'img' or 'jpg' among picture, label"):
        hub.open_part(task, tmp_path, "pool", FIRST)
    assert hub.look(task, tmp_path).state == "wrong"


def test_damaged_files_are_told(tmp_path: Path) -> None:
    task = task_of("STL10")
    place = real_snapshots.write_copy(task, tmp_path)
    first(place).write_bytes(first(place).read_bytes()[:-50])
    found = hub.look(task, tmp_path)
    assert found.state == "wrong"
    assert found.told == f"{first(place)}: damaged or incomplete; fetch the copy again."
    with pytest.raises(InputError, match="files of 'train' are damaged"):
        hub.open_part(task, tmp_path, "pool", FIRST)
    faces = task_of("FER2013")
    archive = real_snapshots.write_copy(faces, tmp_path) / "train" / "3.tar"
    archive.write_bytes(archive.read_bytes()[:700])
    assert hub.look(faces, tmp_path).state == "wrong"
    with pytest.raises(InputError, match="files of 'train' are damaged"):
        hub.open_part(faces, tmp_path, "pool", FIRST)


def test_look_tells_what_is_missing_or_too_few(tmp_path: Path) -> None:
    task = task_of("STL10")
    found = hub.look(task, tmp_path)
    assert found.state == "missing"
    assert "no copy of tanganke/stl10 (licence: not stated) is here" in found.told
    place = real_snapshots.write_copy(task, tmp_path)
    held = sum(file.stat().st_size for file in (place / "data").iterdir())
    assert hub.look(task, tmp_path).bytes == held
    first(place).unlink()
    assert "10 images in 'train' instead of 20" in hub.look(task, tmp_path).told
    (place / "data" / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(InputError, match="no files of 'train' are here; fetch tanganke/stl10"):
        hub.open_part(task, tmp_path, "pool", FIRST)


def test_digits_have_no_copy(tmp_path: Path) -> None:
    task = task_of("EMNIST")
    assert hub.look(task, tmp_path).state == "missing"
    with pytest.raises(InputError, match="no copy on the hub is known"):
        hub.download(task, tmp_path)


@pytest.mark.parametrize("switch", offline.SWITCHES)
def test_offline_says_where_files_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    task = task_of("Food101")
    monkeypatch.setenv(switch, "yes")
    with pytest.raises(
        InputError, match=rf"^{switch} is set, .* splits 'train' and 'validation' into .*ethz__food101\.$"
    ):
        hub.download(task, tmp_path)


def test_what_is_all_here_is_not_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = task_of("STL10")
    real_snapshots.write_copy(task, tmp_path)
    hub.download(task, tmp_path)
    assert capsys.readouterr().err == ""


@contextmanager
def hub_of(place: Path, name: str) -> Iterator[tuple[str, list[str]]]:
    """Serve one folder as the hub serves a data set; yield its address, and the list of what was asked for."""
    commit, asked = "0123456789abcdef0123456789abcdef01234567", []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            asked.append(f"{self.command} {self.path}")
            path, files = self.path.split("?")[0], copies.listed(place)
            if path.startswith(f"/api/datasets/{name}/tree/"):
                tree = [
                    {"type": "file", "path": file, "size": (place / file).stat().st_size, "oid": "0" * 40}
                    for file in files
                ]
                self._send(json.dumps(tree).encode(), "application/json", body)
            elif path.startswith(f"/api/datasets/{name}"):
                listed = [{"rfilename": file, "size": (place / file).stat().st_size} for file in files]
                self._send(
                    json.dumps({"id": name, "sha": commit, "siblings": listed}).encode(), "application/json", body
                )
            elif path.removeprefix(f"/datasets/{name}/resolve/{commit}/") in files:
                self._send((place / path.removeprefix(f"/datasets/{name}/resolve/{commit}/")).read_bytes(), "", body)
            else:
                self.send_error(404)

        def _send(self, content: bytes, kind: str, body: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind or "application/octet-stream")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Task, Path, list[str]]]:
    """A copy that a hub on this machine serves: its task, its folder, and what was asked for."""
    import huggingface_hub

    task = task_of("STL10")
    place = real_snapshots.write_copy(task, tmp_path / "served")
    with hub_of(place, "tanganke/stl10") as (endpoint, asked):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        # No proxy between here and here.
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        huggingface_hub.close_session()
        yield task, place, asked
    huggingface_hub.close_session()


def test_a_copy_is_fetched_from_a_hub(
    tmp_path: Path, served: tuple[Task, Path, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    task, there, asked = served
    real_snapshots.write_tables(task, there, "contrast", 5, list(task.classes))
    hub.download(task, tmp_path)
    assert hub.look(task, tmp_path).state == "present"
    place = copies.folder(task, tmp_path)
    size = sum(file.stat().st_size for file in (there / "data").iterdir() if "contrast" not in file.name)
    told = f"Fetching tanganke/stl10: 4 files, {size / 1e6:,.1f} MB, into {place} (licence: not stated)."
    assert told in capsys.readouterr().err
    assert sorted(copies.listed(place)) == sorted(file for file in copies.listed(there) if "contrast" not in file)
    assert not any("contrast" in request for request in asked)
    for file in copies.listed(place):
        assert (place / file).read_bytes() == (there / file).read_bytes()


def test_only_what_is_missing_is_fetched(tmp_path: Path, served: tuple[Task, Path, list[str]]) -> None:
    task, _, asked = served
    hub.download(task, tmp_path)
    lost = first(copies.folder(task, tmp_path))
    lost.unlink()
    asked.clear()
    hub.download(task, tmp_path)
    assert {request.rpartition("/")[2] for request in asked if request.startswith("GET /datasets")} == {lost.name}
    asked.clear()
    hub.download(task, tmp_path)
    assert asked == []


def test_a_copy_that_has_changed_is_told(tmp_path: Path, served: tuple[Task, Path, list[str]]) -> None:
    task, there, _ = served
    with pytest.raises(InputError, match="20 images in 'train' instead of 21; fetch the copy again"):
        hub.download(dataclasses.replace(task, pool=21), tmp_path)
    for file in (there / "data").glob("test-*"):
        file.unlink()
    with pytest.raises(InputError, match="the hub lists no files of 'test' now; use other files"):
        hub.download(task, tmp_path / "elsewhere")


def test_a_hub_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"stl10: the hub did not give its files \(.*\); run .* put them into .*stl10"):
        hub.download(task_of("STL10"), tmp_path)


def test_a_full_disk_is_told_before_anything_is_fetched(
    tmp_path: Path, served: tuple[Task, Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _, asked = served
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(InputError, match=r"GB are needed and 0\.0 GB are free; free some space"):
        hub.download(task, tmp_path)
    assert not any("/resolve/" in request for request in asked)
