# SPDX-License-Identifier: MIT
"""Models of a hub: in folders of its library's cache, and by name from a hub that runs on this machine."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import small_models
from foreign import refused
from safetensors.torch import save_file

from compendium import paths
from tsvlib import checkpoints
from tsvlib.checkpoints import downloads, hub
from tsvlib.errors import InputError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHARDED = "model.safetensors.index.json"


def write_model(folder: Path, seed: int, sharded: bool = False) -> Path:
    """Write a model as the hub has it, beside files that loaders need and files that nobody needs here."""
    folder.mkdir(parents=True)
    state = small_models.state(seed)
    homes = {key: f"part-{number % 2}.safetensors" for number, key in enumerate(state)}
    if sharded:
        for name in set(homes.values()):
            save_file({key: state[key] for key in state if homes[key] == name}, folder / name)
        (folder / SHARDED).write_text(json.dumps({"weight_map": homes}))
    else:
        save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(bytes(5000))
    (folder / "consolidated.safetensors").write_bytes(bytes(5000))
    return folder


def write_cached(cache: Path, repository: str, *commits: str, main: str | None = None) -> Path:
    """Lay out a model as the hub's library keeps it: links to blobs, and the commit of the branch in refs."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "blobs").mkdir(parents=True)
    for seed, commit in enumerate(commits):
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True)
        save_file(small_models.state(seed), folder / "blobs" / f"blob{seed}")
        (snapshot / "model.safetensors").symlink_to(f"../../blobs/blob{seed}")
    if main:
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(main)
    return folder


def seed_of(path: Path) -> int:
    """Return which of the small models a checkpoint holds."""
    found = checkpoints.open_checkpoint(path).read("visual.proj")
    return next(seed for seed in range(9) if found.equal(small_models.state(seed)["visual.proj"]))


def test_a_folder_of_the_cache_is_read_by_its_branch(tmp_path: Path) -> None:
    folder = write_cached(tmp_path, "org/name", "0a1b", "2c3d", main="2c3d\n")
    assert seed_of(folder) == seed_of(folder / "snapshots") == seed_of(folder / "snapshots/2c3d") == 1
    assert seed_of(folder / "snapshots" / "0a1b") == 0
    for place in (folder, folder / "snapshots", folder / "snapshots/0a1b"):
        assert checkpoints.open_checkpoint(place).name == "org/name"
    assert checkpoints.open_checkpoint(folder / "snapshots/0a1b/model.safetensors").name == "model.safetensors"


def test_a_single_snapshot_is_read_without_a_branch(tmp_path: Path) -> None:
    assert seed_of(write_cached(tmp_path, "org/name", "0a1b")) == 0


def test_which_of_several_snapshots_is_asked_and_none_is_told(tmp_path: Path) -> None:
    folder = write_cached(tmp_path, "org/name", "0a1b", "2c3d", main="../../elsewhere")
    refused(folder, "has several snapshots; name one of 0a1b, 2c3d")
    empty = write_cached(tmp_path, "org/empty")
    (empty / "snapshots").mkdir()
    refused(empty, "holds no snapshot of main; download it again")


def test_a_folder_of_that_name_without_snapshots_is_any_folder(tmp_path: Path) -> None:
    assert seed_of(write_model(tmp_path / "models--org--name", 2)) == 2


def test_links_of_a_snapshot_lead_to_blobs_and_nowhere_else(tmp_path: Path) -> None:
    folder = write_cached(tmp_path, "org/name", "0a1b") / "snapshots/0a1b"
    (folder / "stray.safetensors").symlink_to(tmp_path / "elsewhere")
    assert hub.holds(folder, folder / "model.safetensors")
    assert not hub.holds(folder, folder / "stray.safetensors")
    assert not hub.holds(folder, folder.parent / "other" / "model.safetensors")


@pytest.mark.parametrize("name", ["hf://", "hf://name", "hf://a/b/c", "hf://a/b@", "hf://a b/c", "hf://a/b@c/d"])
def test_half_a_name_is_told(name: str) -> None:
    with pytest.raises(InputError, match="names no model of the hub; write hf://OWNER/NAME"):
        checkpoints.open_checkpoint(Path(name))


def test_names_are_understood_with_and_without_a_revision() -> None:
    for text, told in {"hf://a/b": "hf://a/b", "hf://a/b/": "hf://a/b", "hf://a/b@v1.0": "hf://a/b@v1.0"}.items():
        assert str(downloads.named(Path(text))) == told
    for text in ("a/b", "/hf:/a/b", "hf", "./x/hf:/a/b"):
        assert downloads.named(Path(text)) is None


class Hub(ThreadingHTTPServer):
    """Serves ``folder/OWNER/NAME`` as the hub does, and keeps which files were asked for."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.sent: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith("/api/models/"):
            _, _, _, owner, name, what, *_ = (*path.split("/"), "", "")
            self.tell(self.server.folder / owner / name, f"{owner}/{name}", what)
            return
        repository, found, name = path.lstrip("/").partition(f"/resolve/{COMMIT}/")
        if found:
            self.send(self.server.folder / repository / name)
        else:
            # Of what else the library asks a hub, this one has nothing.
            self.answer(404, b"{}", {})

    def tell(self, folder: Path, repository: str, what: str) -> None:
        if not folder.is_dir():
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        tree = [
            {"type": "file", "path": file.relative_to(folder).as_posix(), "size": file.stat().st_size, "oid": oid(file)}
            for file in files
        ]
        info = {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": each["path"]} for each in tree]}
        self.answer(200, json.dumps(tree if what == "tree" else info).encode(), {"Content-Type": "application/json"})

    def send(self, file: Path) -> None:
        if self.command == "GET":
            self.server.sent.append(file.name)
        self.answer(200, file.read_bytes(), {"ETag": f'"{oid(file)}"', "X-Repo-Commit": COMMIT})

    def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def oid(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Hub]:
    """A hub with a base in shards and two experts."""
    write_model(tmp_path / "served/org/base", 0, sharded=True)
    for seed in (1, 2):
        write_model(tmp_path / f"served/org/expert{seed}", seed)
    server = Hub(tmp_path / "served")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


INPUTS = ["--base", "hf://org/base", "--expert", "hf://org/expert1", "--expert", "hf://org/expert2"]


def merge(
    folder: Path, port: int, *words: str, before: str = "", **environment: str
) -> "subprocess.CompletedProcess[str]":
    """Merge in a process of its own, whose hub is at a port of this machine and whose cache lies in ``folder``."""
    code = f"import sys; {before}\nfrom tsvlib.cli import commands\nraise SystemExit(commands.main(sys.argv[1:]))"
    place = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HUB_CACHE": str(folder / "cache"), "NO_PROXY": "127.0.0.1"}
    kept = {name: text for name, text in os.environ.items() if not name.lower().endswith("_proxy")}
    command = [sys.executable, "-c", code, "merge", *(words or INPUTS), "--out", str(folder / "merged.safetensors")]
    every = kept | place | {"PYTHONPATH": str(paths.ROOT), "HF_HUB_DISABLE_XET": "1"} | environment
    return subprocess.run(command, cwd=folder, env=every, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_model_is_fetched_by_name_once_with_its_size_said_first(served: Hub, tmp_path: Path) -> None:
    done = merge(tmp_path, served.server_port)
    assert done.returncode == 0, done.stderr
    assert {"part-0.safetensors", "part-1.safetensors", SHARDED, "config.json", "model.safetensors"} == set(served.sent)
    needed = ("part-0.safetensors", "part-1.safetensors", SHARDED, "config.json")
    size = sum((tmp_path / "served/org/base" / name).stat().st_size for name in needed)
    assert f"hf://org/base: {size / 1000:.3g} kB to download into {tmp_path / 'cache'}" in done.stderr
    local = [word.replace("hf://org", str(served.folder / "org")) for word in INPUTS]
    names = checkpoints.recipe(tmp_path / "merged.safetensors")["inputs"]
    assert [names["base"][0]["name"], names["expert"][1]["name"]] == ["org/base", "org/expert2"]
    asked = len(served.sent)
    first = checkpoints.load(tmp_path / "merged.safetensors")
    assert merge(tmp_path, served.server_port).returncode == 0
    assert len(served.sent) == asked
    assert merge(tmp_path, served.server_port, *local).returncode == 0
    second = checkpoints.load(tmp_path / "merged.safetensors")
    assert all(first[key].equal(second[key]) for key in first)


def test_what_the_hub_does_not_have_is_answered_by_a_command(served: Hub, tmp_path: Path) -> None:
    done = merge(tmp_path, served.server_port, "--base", "hf://org/nothing", *INPUTS[2:])
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert said.startswith("hf://org/nothing: the hub does not serve it (")
    assert said.endswith("type `hf download org/nothing --local-dir nothing` where it does, and name that folder.")
    (tmp_path / "served/org/odd").mkdir()
    (tmp_path / "served/org/odd/weights.gguf").write_bytes(b"odd")
    done = merge(tmp_path, served.server_port, "--base", "hf://org/odd", *INPUTS[2:])
    assert "hf://org/odd: the hub has none of model.safetensors, " in done.stderr.splitlines()[-1]


UNINSTALLED = "sys.modules['huggingface_hub'] = None"
UNREACHABLE = {
    "offline": ({"HF_HUB_OFFLINE": "1"}, "", "HF_HUB_OFFLINE is set, and it is not in the cache"),
    "transformers offline": ({"TRANSFORMERS_OFFLINE": "1"}, "", "TRANSFORMERS_OFFLINE is set"),
    "not installed": ({}, UNINSTALLED, "the package huggingface_hub, which would fetch it, is not installed here"),
    "no network": ({}, "", "the hub does not serve it ("),
}


@pytest.mark.slow
@pytest.mark.parametrize("way", UNREACHABLE)
def test_without_a_hub_the_cache_is_used_and_else_the_command_is_told(tmp_path: Path, way: str) -> None:
    environment, before, reason = UNREACHABLE[way]
    done = merge(tmp_path, 9, before=before, **environment)
    assert done.returncode == 1, done.stderr
    said = done.stderr.splitlines()[-1]
    assert said.startswith(f"hf://org/base: {reason}")
    assert "; type `hf download org/base --local-dir base` where it does, and name that folder." in said
    assert "Traceback" not in done.stderr
    for seed, name in enumerate(("base", "expert1", "expert2")):
        write_cached(tmp_path / "cache", f"org/{name}", "beef", main="beef")
        save_file(small_models.state(seed), tmp_path / "cache" / f"models--org--{name}" / "blobs" / "blob0")
    done = merge(tmp_path, 9, before=before, **environment)
    assert done.returncode == 0, done.stderr
    assert f"hf://org/expert2: {reason}" in done.stderr
