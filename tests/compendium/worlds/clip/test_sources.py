# SPDX-License-Identifier: MIT
"""Four sources give the same encoders; what is wrong with a file is told in a sentence; the hub is asked if need be."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from compendium.worlds import offline
from compendium.worlds.clip import registry
from compendium.worlds.clip.sources import backbones, fetching, fusionbench, openclip, origins
from compendium.worlds.clip.sources.protocol import Source
from compendium.worlds.clip.sources.registered import SOURCES
from tsvlib.errors import InputError

from . import hub_stand_in, real_checkpoints
from .hub_stand_in import Hub

NAMES = ("tall-masks", "tsv", "fusion-bench", "task-arithmetic")
WRITERS: Mapping[str, Callable[..., None]] = {
    "tall-masks": real_checkpoints.write_tall_masks,
    "tsv": real_checkpoints.write_tsv,
    "fusion-bench": real_checkpoints.write_fusion_bench,
    "task-arithmetic": real_checkpoints.write_task_arithmetic,
}
B32, B16 = "ViT-B-32", "ViT-B-16"
State = dict[str, Tensor]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[None]:
    with real_checkpoints.tiny_backbones(tmp_path / "configs"):
        yield


@pytest.fixture
def written(small: None, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Source, Path]:
    """A source, named by the test's parameter, and its folder with the expert of MNIST and the base."""
    WRITERS[request.param](tmp_path / "files", B32, ["MNIST"])
    return SOURCES[request.param], tmp_path / "files"


every_source = pytest.mark.parametrize("written", NAMES, indirect=True)


def told(call: Callable[[], object], file: Path, reason: str) -> str:
    """Expect one sentence that begins with the file, gives the reason and says what to do."""
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert re.search(reason, message), message
    assert "; " in message
    assert message.endswith(".")
    assert "\n" not in message
    return message


def rewrite(file: Path, change: Callable[[State], object]) -> None:
    """Change the tensors of a plain checkpoint in place; the function gets them by the names in the file."""
    state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, weights_only=True)
    change(state)
    save_file(state, file) if file.suffix == ".safetensors" else torch.save(state, file)


@pytest.mark.parametrize(
    ("backbone", "tensors", "numbers", "visual"),
    [
        (B32, 158, 113_448_705, 87_849_216),
        (B16, 158, 111_792_129, 86_192_640),
        ("ViT-L-14", 302, 342_562_049, 303_966_208),
    ],
)
def test_real_backbones_have_as_many_numbers_as_published(
    backbone: str, tensors: int, numbers: int, visual: int
) -> None:
    published = backbones.published(backbone)
    assert len(published) == tensors
    assert backbones.size(published) == 4 * numbers
    assert backbones.size(backbones.encoder(backbone, "open_clip")) == 4 * visual


def test_transformers_has_as_many_numbers_without_the_projection() -> None:
    assert backbones.size(backbones.encoder(B32, "transformers")) == 4 * 87_456_000


def test_backbones_that_nobody_described_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"backbone ViT-X: open_clip describes no model of that name; choose ViT-B-32"):
        SOURCES["tsv"].look(tmp_path, "ViT-X", "Cars")


def test_sources_are_those_of_the_protocol() -> None:
    assert tuple(SOURCES) == NAMES
    assert all(isinstance(source, Source) and source.name == name for name, source in SOURCES.items())
    assert {source.layout for source in SOURCES.values()} == {"open_clip", "transformers"}
    assert fusionbench.TASKS.keys() == registry.tasks().keys()
    assert len(set(fusionbench.TASKS.values())) == len(fusionbench.TASKS)


@every_source
def test_every_source_gives_the_features_of_the_same_encoder(written: tuple[Source, Path]) -> None:
    source, folder = written
    images = torch.randn(4, 3, 32, 32)
    for task in ("MNIST", None):
        state = source.read(folder, B32, task)
        assert {key: tuple(tensor.shape) for key, tensor in state.items()} == backbones.encoder(B32, source.layout)
        assert {tensor.dtype for tensor in state.values()} == {torch.float32}
        projection = source.projection(folder, B32) if source.layout == "transformers" else None
        found = real_checkpoints.features(B32, state, images, projection)
        expected = real_checkpoints.features(B32, real_checkpoints.encoder(B32, task), images)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@every_source
def test_looking_tells_what_is_there(written: tuple[Source, Path]) -> None:
    source, folder = written
    for task in ("MNIST", None):
        found = source.look(folder, B32, task)
        file = source.files(folder, B32, task)
        assert (found.state, found.bytes) == ("present", file.stat().st_size)
        assert found.told == f"{file}: 0 MB."


def test_looking_for_a_real_checkpoint_tells_the_size_of_its_download(tmp_path: Path) -> None:
    found = SOURCES["tall-masks"].look(tmp_path, B32, "Cars")
    file = tmp_path / B32 / "CarsVal" / "nonlinear_finetuned.pt"
    assert (found.state, found.bytes) == ("missing", 4 * 113_448_705)
    assert found.told == f"{file}: the file is missing; fetch it from nik-dim/tall_masks on the hub (454 MB)."
    by_hand = SOURCES["tsv"].look(tmp_path, B32, "Cars").told
    assert "copy ViT-B-32/CarsVal/nonlinear_finetuned.pt from https://drive.google.com/drive/folders/1UEM1" in by_hand
    base = SOURCES["tsv"].look(tmp_path, "ViT-L-14", None).told
    assert "fetch it from timm/vit_large_patch14_clip_224.openai on the hub (1,710 MB)" in base


@every_source
def test_files_that_end_early_are_told_without_reading_numbers(written: tuple[Source, Path]) -> None:
    source, folder = written
    file = source.files(folder, B32, "MNIST")
    content = file.read_bytes()
    for length in (len(content) - 100, len(content) // 2, 50, 0):
        file.write_bytes(content[:length])
        found = source.look(folder, B32, "MNIST")
        assert (found.state, found.bytes) == ("wrong", length)
        assert told(
            lambda: source.read(folder, B32, "MNIST"), file, r"download (it|the file|or make it) again|download"
        )


@every_source
def test_a_checkpoint_of_another_backbone_is_told(written: tuple[Source, Path]) -> None:
    source, folder = written
    WRITERS[source.name](folder, B16, ["MNIST"])
    file = source.files(folder, B32, "MNIST")
    os.replace(source.files(folder, B16, "MNIST"), file)
    reason = r"`\S*position\S+` is 17 x 32, but 5 x 32 in that backbone"
    assert source.look(folder, B32, "MNIST").told == told(lambda: source.read(folder, B32, "MNIST"), file, reason)


PLAIN = pytest.mark.parametrize("written", ["tall-masks", "fusion-bench"], indirect=True)


def last(state: State, of: str = "ln_post|post_layernorm") -> str:
    return next(key for key in sorted(state) if re.search(of, key))


@PLAIN
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop(last(state)), r"`\S*(ln_post|post_layernorm)\.bias` is missing"),
        (lambda state: state.update(surplus=torch.ones(1)), r"`surplus` is not part of that backbone"),
        (lambda state: state.update({last(state): torch.ones(33)}), r"`\S+` is 33, but 32 in that backbone"),
        (lambda state: state.update({last(state): torch.ones(32).double()}), r"`\S+` has type torch\.float64"),
    ],
    ids=["missing", "surplus", "shape", "type"],
)
def test_tensors_that_do_not_fit_are_told(
    written: tuple[Source, Path], change: Callable[[State], object], reason: str
) -> None:
    source, folder = written
    file = source.files(folder, B32, "MNIST")
    rewrite(file, change)
    found = source.look(folder, B32, "MNIST")
    assert (found.state, found.told) == ("wrong", told(lambda: source.read(folder, B32, "MNIST"), file, reason))


@PLAIN
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_told(written: tuple[Source, Path], value: float) -> None:
    source, folder = written
    file = source.files(folder, B32, "MNIST")
    rewrite(file, lambda state: state[last(state)].fill_(value))
    told(lambda: source.read(folder, B32, "MNIST"), file, r"`\S*(ln_post|post_layernorm)\.bias` holds NaN or Inf")


@PLAIN
def test_halves_are_read_as_what_they_are(written: tuple[Source, Path]) -> None:
    source, folder = written
    before = source.read(folder, B32, "MNIST")
    rewrite(
        source.files(folder, B32, "MNIST"),
        lambda state: state.update({key: value.half() for key, value in state.items()}),
    )
    for key, tensor in source.read(folder, B32, "MNIST").items():
        assert torch.equal(tensor, before[key].half().float())


def test_a_text_tower_in_an_expert_of_transformers_is_refused(small: None, tmp_path: Path) -> None:
    """Whoever trained it may have trained the projection, too, which the source takes from the base."""
    real_checkpoints.write_fusion_bench(tmp_path, B32, ["MNIST"])
    source = SOURCES["fusion-bench"]
    file = source.files(tmp_path, B32, "MNIST")
    rewrite(file, lambda state: state.update({"visual_projection.weight": torch.ones(16, 32)}))
    told(lambda: source.read(tmp_path, B32, "MNIST"), file, "`visual_projection.weight` is not part of that backbone")
    base = source.files(tmp_path, B32, None)
    rewrite(base, lambda state: state.pop("visual_projection.weight"))
    assert source.look(tmp_path, B32, None).state == "wrong"
    told(lambda: source.projection(tmp_path, B32), base, "`visual_projection.weight` is missing")


def test_layouts_with_a_projection_of_their_own_have_no_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="have their projection among their tensors"):
        SOURCES["tsv"].projection(tmp_path, B32)


@pytest.mark.parametrize("options", [{"owner": False}, {"pickled": True}, {"prefix": False}], ids=str)
def test_fusion_bench_is_read_however_it_was_saved(small: None, tmp_path: Path, options: dict[str, bool]) -> None:
    source = SOURCES["fusion-bench"]
    real_checkpoints.write_fusion_bench(tmp_path / "usual", B32, ["MNIST", "EMNIST"])
    real_checkpoints.write_fusion_bench(tmp_path / "other", B32, ["MNIST", "EMNIST"], **options)
    for task in ("MNIST", "EMNIST", None):
        usual, other = (source.read(tmp_path / name, B32, task) for name in ("usual", "other"))
        assert usual.keys() == other.keys()
        assert all(torch.equal(usual[key], other[key]) for key in usual)


@pytest.mark.parametrize("below", ["VIT-B-16", "single_task/ViT-B-16", "single_task/VIT-B-16"])
def test_a_copy_of_the_hub_is_as_good_as_the_authors_folder(small: None, tmp_path: Path, below: str) -> None:
    source = SOURCES["tall-masks"]
    real_checkpoints.write_tall_masks(tmp_path / "made", B16, ["Cars"])
    (tmp_path / "copy" / below).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "made" / B16).rename(tmp_path / "copy" / below)
    assert source.look(tmp_path / "copy", B16, "Cars").state == "present"
    state = source.read(tmp_path / "copy", B16, "Cars")
    assert all(torch.equal(state[key], value) for key, value in real_checkpoints.encoder(B16, "Cars").items())
    assert source.head(tmp_path / "copy", B16, "Cars") is not None


@pytest.mark.parametrize("name", ["tall-masks", "tsv", "task-arithmetic"])
def test_the_base_of_open_clip_stands_in_for_a_missing_one(small: None, tmp_path: Path, name: str) -> None:
    source = SOURCES[name]
    assert source.look(tmp_path, B32, None).state == "missing"
    assert source.files(tmp_path, B32, None) == tmp_path / B32 / "openai" / "open_clip_model.safetensors"
    real_checkpoints.write_openai(tmp_path, B32)
    assert source.look(tmp_path, B32, None).state == "present"
    state = source.read(tmp_path, B32, None)
    assert all(torch.equal(state[key], value) for key, value in real_checkpoints.encoder(B32, None).items())
    # What the authors have beside their experts goes first.
    WRITERS[name](tmp_path, B32, ["Cars"])
    assert source.files(tmp_path, B32, None).suffix == ".pt"


def test_plain_and_pickled_files_stand_in_for_each_other(small: None, tmp_path: Path) -> None:
    masks, arithmetic = SOURCES["tall-masks"], SOURCES["task-arithmetic"]
    real_checkpoints.write_tall_masks(tmp_path / "masks", B32, ["Cars"])
    real_checkpoints.write_task_arithmetic(tmp_path / "arithmetic", B32, ["Cars"])
    places = masks.files(tmp_path / "masks", B32, "Cars"), arithmetic.files(tmp_path / "arithmetic", B32, "Cars")
    contents = [place.read_bytes() for place in places]
    for place, content in zip(places, reversed(contents), strict=True):
        place.write_bytes(content)
    expected = real_checkpoints.encoder(B32, "Cars")
    for source, folder in ((masks, "masks"), (arithmetic, "arithmetic")):
        found = source.read(tmp_path / folder, B32, "Cars")
        assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("written", ["tall-masks", "task-arithmetic"], indirect=True)
def test_classifiers_beside_experts_are_read(written: tuple[Source, Path]) -> None:
    source, folder = written
    found = source.head(folder, B32, "MNIST")
    assert found is not None
    assert torch.equal(found, real_checkpoints.head(B32, "MNIST"))
    assert source.head(folder, B32, "Cars") is None
    (file,) = (folder / B32).glob("head_MNIST*.pt")
    torch.save(torch.nn.Linear(17, 3), file)
    told(lambda: source.head(folder, B32, "MNIST"), file, "no classifier of 16 features")
    torch.save(torch.nn.Linear(16, 3), file)
    told(lambda: source.head(folder, B32, "MNIST"), file, "has a bias")
    assert SOURCES["fusion-bench"].head(folder, B32, "MNIST") is None


@every_source
def test_another_file_in_the_place_of_one_that_was_read_is_noticed(written: tuple[Source, Path]) -> None:
    source, folder = written
    file = source.files(folder, B32, "MNIST")
    found = origins.origin(source, folder, B32, "MNIST", "clean")
    assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (found.source, found.generation, folder / found.file) == (source.name, "clean", file)
    origins.check(found, folder)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    told(lambda: origins.check(found, folder), file, f"not the one that was read before .*{found.sha256[:12]}")
    file.unlink()
    told(lambda: origins.check(found, folder), file, "the file is missing")
    assert origins.origin(source, folder, B32, None).generation == "unknown"


@pytest.mark.parametrize("word", ["new", "", 3, None])
def test_generations_have_three_words(word: object) -> None:
    told(
        lambda: origins.generation(word, "local.toml, tsv"),
        Path("local.toml, tsv"),
        'write "old", "clean" or "unknown"',
    )
    assert [origins.generation(known, "") for known in ("old", "clean", "unknown")] == ["old", "clean", "unknown"]


@pytest.fixture
def hub(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the experts of two tasks and the base, of TALL-masks and of FusionBench."""
    for name in offline.SWITCHES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    served = tmp_path / "hub"
    masks = served / "nik-dim" / "tall_masks" / "single_task"
    real_checkpoints.write_tall_masks(masks, B16, ["Cars"], heads=False, zero_shot=False)
    (masks / B16).rename(masks / "VIT-B-16")
    real_checkpoints.write_openai(served / "base", B16)
    (served / "timm").mkdir()
    (served / "base" / B16 / "openai").rename(served / "timm" / "vit_base_patch16_clip_224.openai")
    real_checkpoints.write_fusion_bench(served, B32, ["SUN397"])
    real_checkpoints.write_fusion_bench(served, B32, ["Cars"], pickled=True)
    with hub_stand_in.hub(served, monkeypatch) as running:
        yield running


@pytest.mark.parametrize(
    ("name", "backbone", "task", "repository", "file"),
    [
        ("tall-masks", B16, "Cars", "nik-dim/tall_masks", "single_task/VIT-B-16/CarsVal/nonlinear_finetuned.pt"),
        ("tsv", B16, None, "timm/vit_base_patch16_clip_224.openai", "open_clip_model.safetensors"),
        ("fusion-bench", B32, "SUN397", "tanganke/clip-vit-base-patch32_sun397", "model.safetensors"),
        ("fusion-bench", B32, "Cars", "tanganke/clip-vit-base-patch32_stanford-cars", "pytorch_model.bin"),
        ("fusion-bench", B32, None, "openai/clip-vit-base-patch32", "model.safetensors"),
    ],
)
def test_what_is_fetched_is_announced_and_read(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    name: str, backbone: str, task: str | None, repository: str, file: str,
) -> None:  # fmt: skip
    source, folder = SOURCES[name], tmp_path / "here"
    got = fetching.fetch(source, folder, backbone, task)
    assert got == source.files(folder, backbone, task)
    assert got.read_bytes() == (hub.folder / repository / file).read_bytes()
    assert f"{repository}: downloading {file} (0 MB) to {got}\n" in capsys.readouterr().err
    assert source.look(folder, backbone, task).state == "present"
    source.read(folder, backbone, task)
    assert [path for path in folder.rglob("*") if path.is_file()] == [got]


def test_the_text_tower_is_fetched_beside_a_base_that_has_none(hub: Hub, tmp_path: Path) -> None:
    real_checkpoints.write_tall_masks(tmp_path / "here", B16, ["Cars"])
    got = fetching.fetch_openai(tmp_path / "here", B16)
    assert got == openclip.openai_file(tmp_path / "here", B16)
    assert "transformer.resblocks.0.ln_1.weight" in load_file(got)
    hub.asked.clear()
    assert fetching.fetch_openai(tmp_path / "here", B16) == got
    assert hub.asked == []


def test_backbones_that_openai_did_not_train_have_no_such_base(tmp_path: Path) -> None:
    small = real_checkpoints.tiny_backbones(tmp_path, {"tiny": real_checkpoints.TINY[B32]})
    with small, pytest.raises(InputError, match=r"backbone tiny: open_clip has no weights of OpenAI for it; put its"):
        fetching.fetch(SOURCES["tsv"], tmp_path / "here", "tiny", None)


def test_what_is_there_is_not_asked_for(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real_checkpoints.write_tall_masks(tmp_path / "here", B16, ["Cars"])
    for task in ("Cars", None):
        fetching.fetch(SOURCES["tall-masks"], tmp_path / "here", B16, task)
    assert hub.asked == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("switch", offline.SWITCHES)
def test_offline_nothing_is_asked_for(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    monkeypatch.setenv(switch, "1")
    for name in ("tall-masks", "fusion-bench"):
        for task in ("Cars", None):
            source, folder = SOURCES[name], tmp_path / "here"
            file, fetched = source.files(folder, B16, task), partial(fetching.fetch, source, folder, B16, task)
            message = told(fetched, file, switch)
            assert re.search(rf"unset that, or (put|copy) .* {re.escape(str(folder))}", message)
    assert hub.asked == []
    assert not (tmp_path / "here").exists()


def content_and_part(hub: Hub, file: Path) -> tuple[bytes, Path]:
    """Return what the hub has for an expert of TALL-masks, and where a run that breaks off leaves what it got."""
    content = (hub.folder / "nik-dim/tall_masks/single_task/VIT-B-16/CarsVal/nonlinear_finetuned.pt").read_bytes()
    return content, file.with_name(f".{file.name}.{hashlib.sha256(content).hexdigest()[:12]}.partial")


def test_a_broken_connection_is_resumed(hub: Hub, tmp_path: Path) -> None:
    # Larger than what the hub's library keeps in memory before it writes.
    chunk = 10 * 2**20
    served = hub.folder / "nik-dim" / "tall_masks" / "single_task" / B16 / "DTDVal" / "nonlinear_finetuned.pt"
    served.parent.mkdir(parents=True)
    served.write_bytes(os.urandom(chunk + 5000))
    hub.breaks = [chunk + 1000, 0]
    got = fetching.fetch(SOURCES["tall-masks"], tmp_path / "here", B16, "DTD")
    assert hub.downloads() == [None, f"bytes={chunk}-", f"bytes={chunk}-"]
    assert got.read_bytes() == served.read_bytes()
    assert [path.name for path in got.parent.iterdir()] == [got.name]


def test_the_next_run_goes_on_where_one_broke_off(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, folder = SOURCES["tall-masks"], tmp_path / "here"
    file = source.files(folder, B16, "Cars")
    content, left = content_and_part(hub, file)
    hub.failing = True
    with pytest.raises(InputError, match=r"the download failed .*; run the command again, which goes on from there\.$"):
        fetching.fetch(source, folder, B16, "Cars")
    assert not file.exists()
    # As a run leaves it that was killed after so many bytes.
    left.write_bytes(content[:1000])
    hub.failing = False
    assert fetching.fetch(source, folder, B16, "Cars").read_bytes() == content
    assert hub.downloads()[-1] == "bytes=1000-"
    assert "(0 MB, of which 0 MB are there already)" in capsys.readouterr().err
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("begun", [b"something else", b"more" * 10**6])
def test_a_wrong_beginning_does_no_lasting_harm(hub: Hub, tmp_path: Path, begun: bytes) -> None:
    source, folder = SOURCES["tall-masks"], tmp_path / "here"
    file = source.files(folder, B16, "Cars")
    content, left = content_and_part(hub, file)
    left.parent.mkdir(parents=True)
    left.write_bytes(begun)
    if len(begun) < len(content):
        with pytest.raises(InputError, match="what came is not what the hub states"):
            fetching.fetch(source, folder, B16, "Cars")
    assert fetching.fetch(source, folder, B16, "Cars").read_bytes() == content


def test_what_is_not_as_stated_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.lies = True
    with pytest.raises(InputError, match=r"what came is not what the hub states \(0 MB, SHA-256 \w{12}\); run the"):
        fetching.fetch(SOURCES["tall-masks"], tmp_path / "here", B16, "Cars")
    assert not (tmp_path / "here").exists()


def test_what_the_hub_lacks_is_told_with_another_way(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"nik-dim/tall_masks on the hub: there is no single_task/ViT-B-16/MNISTVal.*copy"
    ):
        fetching.fetch(SOURCES["tall-masks"], tmp_path / "here", B16, "MNIST")
    with pytest.raises(InputError, match=r"tanganke/clip-vit-base-patch32_dtd on the hub: the download failed .*put"):
        fetching.fetch(SOURCES["fusion-bench"], tmp_path / "here", B32, "DTD")
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    ("name", "drive"), [("tsv", "1UEM1Thcz1c7dc1nji1i5uTN53Kf6G3-e"), ("task-arithmetic", "1u_Tva6")]
)
def test_what_is_on_no_hub_is_told_with_its_drive(tmp_path: Path, name: str, drive: str) -> None:
    source = SOURCES[name]
    file = source.files(tmp_path, B32, "Cars")
    told(
        lambda: fetching.fetch(source, tmp_path, B32, "Cars"),
        file,
        f"{name} is not on the hub; copy .*{drive}.* to {file}",
    )


def test_a_full_disk_is_told_before_anything_comes(
    hub: Hub, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"0 MB are needed and 0 MB are free; make room or choose another folder"):
        fetching.fetch(SOURCES["tall-masks"], small_disk / "here", B16, "Cars")
    assert hub.downloads() == []


def test_two_processes_do_not_fetch_one_file(hub: Hub, tmp_path: Path) -> None:
    source, folder = SOURCES["tall-masks"], tmp_path / "here"
    file = source.files(folder, B16, "Cars")
    content, left = content_and_part(hub, file)
    left.parent.mkdir(parents=True)
    with fetching._claimed(left), pytest.raises(InputError, match="another process is downloading that file"):
        fetching.fetch(source, folder, B16, "Cars")
    assert fetching.fetch(source, folder, B16, "Cars").read_bytes() == content


def test_names_of_small_models_are_given_back(tmp_path: Path) -> None:
    before = open_clip.get_model_config(B32)
    with real_checkpoints.tiny_backbones(tmp_path, {"tiny": real_checkpoints.TINY[B32]}):
        real_checkpoints.write_fusion_bench(tmp_path / "files", "tiny", ["DTD"])
        assert SOURCES["fusion-bench"].look(tmp_path / "files", "tiny", "DTD").state == "present"
        assert open_clip.get_model_config(B32) == before
    assert open_clip.get_model_config("tiny") is None
