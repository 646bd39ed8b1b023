# SPDX-License-Identifier: MIT
"""Headers of other programs are taken when they are sound, and refused as the safetensors package refuses them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from foreign import refused, same
from safetensors import SafetensorError, safe_open

from tsvlib.checkpoints import open_checkpoint
from tsvlib.errors import InputError

UNSOUND = "the file is no complete and sound safetensors file"


def written(path: Path, header: object, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(start: int, end: int, shape: list[Any] | None = None, dtype: str = "U8") -> dict[str, object]:
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


def test_file_cut_anywhere_is_refused(foreign: Path) -> None:
    content = foreign.read_bytes()
    for length in range(len(content)):
        foreign.write_bytes(content[:length])
        refused(foreign, UNSOUND)
    foreign.write_bytes(content + b"\0")
    refused(foreign, UNSOUND)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b'{"a":',
        b'{"\xff": 1}',
        b'{"\\ud800": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}',
        b"[" * 100_000,
        b"[]",
        {"__metadata__": {"a": 1}, "a": entry(0, 8)},
        {"__metadata__": "text", "a": entry(0, 8)},
        {"a": [0, 8]},
        {"a": {"dtype": "U8", "shape": [8]}},
        {"a": entry(0, 8, dtype="U7")},
        {"a": entry(0, 8, [-8])},
        {"a": entry(0, 8, [8.0])},
        {"a": entry(0, 8, [True, 8])},
        {"a": entry(0, 8, [7])},
        {"a": entry(0, 8, [8], "F32")},
        {"a": entry(8, 0, [0])},
        {"a": entry(0, 8), "b": entry(8, 8, [0, 2**70, 2**70])},
        {"a": entry(0, 16)},
        {"a": entry(0, 10**30)},
        {"a": entry(0, 6), "b": entry(4, 8)},
        {"a": entry(0, 8), "b": entry(0, 8)},
        {"a": entry(0, 8), "b": entry(4, 4)},
        {"a": entry(0, 4), "b": entry(5, 8)},
        {"a": entry(1, 8)},
        {"a": entry(0, 4)},
        {},
    ],
)
def test_bad_headers_are_refused_as_the_safetensors_package_does(tmp_path: Path, header: object) -> None:
    path = written(tmp_path / "a.safetensors", header, bytes(8))
    refused(path, UNSOUND)
    with pytest.raises(SafetensorError):
        safe_open(path, framework="pt")


def test_a_type_that_tensors_here_cannot_have_is_named(tmp_path: Path) -> None:
    path = written(tmp_path / "a.safetensors", {"a": entry(0, 8, dtype="F8_E5M2")}, bytes(8))
    refused(path, "`a` has the unknown type F8_E5M2; convert it to F64, F32,")


def test_headers_that_are_unusual_but_sound(tmp_path: Path) -> None:
    header = {"__metadata__": None, "b": entry(0, 4) | {"note": 1}, "a": entry(4, 8, [2], "I16"), "none": entry(4, 4)}
    text = b" " + json.dumps(header).encode() + b"   "
    path = written(tmp_path / "a.safetensors", text, bytes(range(8)))
    checkpoint = open_checkpoint(path)
    assert checkpoint.metadata == {}
    assert list(checkpoint.layout) == ["a", "b", "none"]
    with safe_open(path, framework="pt") as oracle:
        assert same(checkpoint, {key: oracle.get_tensor(key) for key in oracle.keys()})  # noqa: SIM118
    assert open_checkpoint(written(path, {})).layout == {}


@pytest.mark.parametrize("change", [0x01, 0x10, 0xFF])
def test_no_changed_byte_of_a_header_leads_where_the_safetensors_package_would_not_go(
    foreign: Path, change: int
) -> None:
    content = foreign.read_bytes()
    for position in range(8 + int.from_bytes(content[:8], "little")):
        damaged = bytearray(content)
        damaged[position] ^= change
        foreign.write_bytes(damaged)
        try:
            checkpoint = open_checkpoint(foreign)
        except InputError:
            continue
        with safe_open(foreign, framework="pt") as oracle:
            expected = {key: oracle.get_tensor(key) for key in oracle.keys()}  # noqa: SIM118
        assert checkpoint.layout.keys() == expected.keys()
        assert all(torch.equal(checkpoint.read(key).view(-1), expected[key].view(-1)) for key in expected)
