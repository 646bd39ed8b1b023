# SPDX-License-Identifier: MIT
"""Headers, indexes, zips and pickles with random damage: a sentence or a sound result, and nothing else on disk.

``make fuzz`` goes on for ``FUZZ_MINUTES``; the folder of the test then holds the files of what it ended with.
"""

import faulthandler
import gc
import io
import json
import os
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import small_models
import torch
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from tsvlib import checkpoints
from tsvlib.cli import commands

MINUTES = float(os.environ.get("FUZZ_MINUTES", "0"))
EXAMPLES = 40
LONGEST = 120
"""Seconds after which one file is taken to be waited for in vain, and the process ends with a traceback."""

PLAIN = ["base.safetensors", "1.safetensors", "2.safetensors"]
NUMBERS = st.sampled_from([0, 1, -1, 7, 2**31, 2**53, 2**63 - 1, 2**64, -(2**63), 1.5, 1e308])
TEXTS = st.sampled_from(
    ["", "F32", "I64", "F8_E4M3", "../x", "/x", "a\0b", "\ud800", "x" * 300, "tsv-c", "1/8", "base"]
)
VALUES = st.one_of(NUMBERS, TEXTS, st.none(), st.booleans(), st.just([]), st.just({}), st.just([[[]]]))
CHUNKS = st.sampled_from(
    [b"", b"\0", b"\xff" * 8, b"{", b"}", b"[" * 3000, b'"', b"PK\5\6", b"\x80\2", b"cos\nsystem\n"]
)
Damage = Callable[[bytes], bytes]


@st.composite
def damage_to_bytes(draw: st.DrawFn) -> Damage:
    """Draw what replaces a few stretches of a file by others."""
    edits = draw(
        st.lists(
            st.tuples(st.floats(0, 1), st.integers(0, 40), CHUNKS | st.binary(max_size=12)), min_size=1, max_size=4
        )
    )

    def damaged(content: bytes) -> bytes:
        for place, length, chunk in edits:
            start = int(place * len(content))
            content = content[:start] + chunk + content[start + length :]
        return content

    return damaged


@st.composite
def damage_to_json(draw: st.DrawFn) -> Damage:
    """Draw what replaces, doubles or takes away values somewhere in a JSON text."""
    edits = draw(st.lists(st.tuples(st.lists(st.integers(0, 30), max_size=5), VALUES), min_size=1, max_size=3))

    def damaged(content: bytes) -> bytes:
        found = json.loads(content)
        for way, value in edits:
            found = replaced(found, way, value)
        return json.dumps(found).encode()

    return damaged


def replaced(found: object, way: list[int], value: object) -> object:
    """Return a JSON value in which the one at the end of a way is another one, or has the key of it."""
    if not way or not isinstance(found, dict | list) or not found:
        return value
    if isinstance(found, list):
        place = way[0] % len(found)
        return [*found[:place], replaced(found[place], way[1:], value), *found[place + 1 :]]
    key = sorted(found)[way[0] % len(found)]
    if len(way) == 1 and isinstance(value, str):
        return {value if name == key else name: each for name, each in found.items()}
    return found | {key: replaced(found[key], way[1:], value)}


def in_header(damage: Damage) -> Damage:
    """Return what does a damage to the header of a safetensors file, whose length stays right."""

    def damaged(content: bytes) -> bytes:
        end = 8 + int.from_bytes(content[:8], "little")
        header = damage(content[8:end])
        return len(header).to_bytes(8, "little") + header + content[end:]

    return damaged


def in_numbers(damage: Damage) -> Damage:
    """Return what does a damage to the numbers of a safetensors file, which stay as many."""

    def damaged(content: bytes) -> bytes:
        start = 8 + int.from_bytes(content[:8], "little")
        numbers = damage(content[start:])[: len(content) - start]
        return content[:start] + numbers + content[start + len(numbers) :]

    return damaged


def in_zip(damage: Damage, name: str = "data.pkl") -> Damage:
    """Return what does a damage to a file in a sound zip archive."""

    def damaged(content: bytes) -> bytes:
        written = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as read, zipfile.ZipFile(written, "w") as archive:
            for each in read.namelist():
                archive.writestr(each, damage(read.read(each)) if each.endswith(name) else read.read(each))
        return written.getvalue()

    return damaged


def in_entry(damage: Damage, entry: str) -> Damage:
    """Return what does a damage to a JSON text in the metadata of a safetensors file."""

    def damaged(header: bytes) -> bytes:
        found = json.loads(header)
        found["__metadata__"][entry] = damage(found["__metadata__"][entry].encode()).decode("utf-8", "replace")
        # As our own files are written, so that more than the spelling is looked at.
        text = json.dumps(found, sort_keys=True, separators=(",", ":")).encode()
        return text + b" " * (-len(text) % 8)

    return in_header(damaged)


BYTES, JSON = damage_to_bytes(), damage_to_json()
EXPERTS = ["--expert", "1.safetensors", "--expert", "2.safetensors"]
MERGES = [["merge", "--out", "out.safetensors"], ["merge", "--out", "out/", "--dtype", "float16"], ["plan"]]
COMMANDS = [*MERGES, ["interference", "--out", "out.csv"]]
ON_BASE = [[*words, "--base", "base.safetensors", *EXPERTS] for words in COMMANDS]
# The damaged file, the damages to it, and the commands that read it.
KINDS: dict[str, tuple[str, st.SearchStrategy[Damage], list[list[str]]]] = {
    "bytes": ("base.safetensors", BYTES, ON_BASE),
    "header": (
        "base.safetensors",
        st.one_of(BYTES, JSON).map(in_header),
        ON_BASE,
    ),
    "numbers": (
        "base.safetensors",
        BYTES.map(in_numbers),
        ON_BASE,
    ),
    "index": (
        "hub/model.safetensors.index.json",
        BYTES | JSON,
        [[*words, "--base", "hub", *EXPERTS] for words in MERGES],
    ),
    "shard": ("hub/part-1.safetensors", JSON.map(in_header), [[*words, "--base", "hub", *EXPERTS] for words in MERGES]),
    "configuration": ("hub/config.json", BYTES | JSON, [[*words, "--base", "hub", *EXPERTS] for words in MERGES]),
    "zip": ("base.pt", BYTES, [[*words, "--base", "base.pt", *EXPERTS] for words in MERGES]),
    "pickle": ("base.pt", BYTES.map(in_zip), [[*words, "--base", "base.pt", *EXPERTS] for words in MERGES]),
    "storage": (
        "base.pt",
        BYTES.map(lambda damage: in_zip(damage, "data/0")),
        [[*words, "--base", "base.pt", *EXPERTS] for words in MERGES],
    ),
    "factors": (
        "factors.safetensors",
        st.one_of(BYTES, JSON.map(in_header), JSON.map(lambda damage: in_entry(damage, "tsv-c"))),
        [["expand", "--base", "base.safetensors", "--factors", "factors.safetensors", "--out", "out.safetensors"]],
    ),
    "recipe": (
        "merged.safetensors",
        st.one_of(BYTES, JSON.map(in_header), *((JSON | BYTES).map(lambda d: in_entry(d, "recipe")) for _ in range(2))),
        [["merge", "--recipe", "merged.safetensors", "--out", out] for out in ("out.safetensors", "out/")],
    ),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sound files of every kind."""
    folder = tmp_path_factory.mktemp("sound")
    states = [small_models.state(seed) for seed in range(3)]
    for state, name in zip(states, PLAIN, strict=True):
        (folder / name).write_bytes(save(state, metadata={"format": "pt"}))
    torch.save(states[0], folder / "base.pt")
    homes = {key: f"part-{number % 2}.safetensors" for number, key in enumerate(states[0])}
    (folder / "hub").mkdir()
    for name in set(homes.values()):
        save_file({key: states[0][key] for key in homes if homes[key] == name}, folder / "hub" / name)
    (folder / "hub" / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": homes}))
    (folder / "hub" / "config.json").write_text(json.dumps({"torch_dtype": "float32", "layers": [1, {"a": 2}]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        merge = ["merge", "--base", "base.safetensors", *EXPERTS, "--out", "merged.safetensors"]
        assert commands.main(merge) == 0
        compress = ["compress", "--base", "base.safetensors", *EXPERTS[:2], "--out", "factors.safetensors"]
        assert commands.main(compress) == 0
    return folder


@st.composite
def attempts(draw: st.DrawFn, kind: str) -> tuple[Damage, list[str]]:
    _, damages, words = KINDS[kind]
    return draw(damages), draw(st.sampled_from(words))


@pytest.mark.parametrize("kind", KINDS)
def test_damage_ends_in_a_sentence_or_a_sound_result(
    kind: str, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, end, number = KINDS[kind][0], time.monotonic() + 60 * MINUTES / len(KINDS), 0
    work = tmp_path / "work"

    def tried(attempt: tuple[Damage, list[str]]) -> None:
        damage, words = attempt
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(sound, work)
        (work / file).write_bytes(damage((sound / file).read_bytes()))
        monkeypatch.chdir(work)
        before = small_models.contents(tmp_path)
        faulthandler.dump_traceback_later(LONGEST, exit=True, file=sys.__stderr__)
        status = commands.main(words)
        faulthandler.cancel_dump_traceback_later()
        hypothesis.event(f"status {status}")
        assert status in (0, 1, 2)
        said = capsys.readouterr().err
        assert "Traceback" not in said
        # A wrong setting is told in click's own words.
        assert status != 1 or said.rstrip().endswith(".")
        check(before, status, words, tmp_path)

    while not number or time.monotonic() < end:
        number += 1
        fresh = hypothesis.settings(max_examples=EXAMPLES, derandomize=False, database=None, deadline=None)
        hypothesis.seed(number)(fresh(hypothesis.given(attempts(kind))(tried)))()
        # What commands set aside from the collector would pile up.
        gc.unfreeze()


def check(before: dict[str, str], status: int, words: list[str], folder: Path) -> None:
    """Assert that all files are what they were, and that there is a sound result or none."""
    out = words[words.index("--out") + 1] if "--out" in words else ""
    after = small_models.contents(folder)
    made = {name for name in after if name.startswith(f"work/{out}")} if out else set()
    assert {name: digest for name, digest in after.items() if name not in made} == before
    assert bool(made) == (status == 0 and bool(out))
    assert not list(folder.rglob(".*"))
    for name in made:
        if name.endswith(".safetensors"):
            checkpoints.verify(folder / name)
