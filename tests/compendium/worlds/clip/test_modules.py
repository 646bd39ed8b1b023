# SPDX-License-Identifier: MIT
"""Pickled modules give their tensors; what else is in the pickle is never run, and takes no more than the file has."""

import os
import pickle
import pickletools
import struct
import sys
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from compendium.worlds.clip import inert
from compendium.worlds.clip.modules import Module
from tsvlib.errors import InputError

CODE = """
import torch

class Preprocess:
    def __init__(self, size, *, mode):
        self.size, self.mode = size, mode
        self.itself = self

class ImageEncoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        parts = torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.MultiheadAttention(4, 2)
        self.model = torch.nn.Sequential(*parts)
        self.model[0].weight.data = torch.arange(12.0).reshape(3, 4).T
        self.register_buffer("mask", torch.ones(2), persistent=False)
        self.small = torch.nn.Parameter(torch.ones(2, dtype=torch.float16))
        self.preprocess = Preprocess(224, mode="bicubic")
"""
STORAGE = ("storage", "FloatStorage", "0", "cpu", 6)
DAMAGED = "no readable module"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The folder of a module that is on nobody's path when its pickles are read."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "gone_modeling.py").write_text(CODE)
    return tmp_path / "code"


@pytest.fixture
def saved(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, torch.Tensor]]:
    with monkeypatch.context() as patched:
        patched.syspath_prepend(str(source))
        import gone_modeling  # type: ignore[import-not-found]

        module = gone_modeling.ImageEncoder()
        torch.save(module, tmp_path / "finetuned.pt")
    sys.modules.pop("gone_modeling")
    return tmp_path / "finetuned.pt", module.state_dict()


def archive(folder: Path, pickled: bytes, numbers: bytes = struct.pack("<6f", *range(6)), **more: bytes) -> Path:
    """Write a pickle, and the numbers of one storage, as torch.save would."""
    with zipfile.ZipFile(folder / "made.pt", "w") as written:
        for name, content in {"data.pkl": pickled, "data/0": numbers, **more}.items():
            written.writestr(f"archive/{name}", content)
    return folder / "made.pt"


class Named:
    """Pickled, a call of any name with any arguments, and a state set afterwards; nothing is imported to write it."""

    def __init__(self, name: str, *arguments: object, state: object = None) -> None:
        self.name, self.arguments, self.state = name, arguments, state


class Reference:
    """Pickled, numbers beside the pickle."""

    def __init__(self, pid: object) -> None:
        self.pid = pid


def pickled(value: object) -> bytes:
    """Write a pickle opcode by opcode, so that it can say what no object would."""
    return pickle.PROTO + b"\x02" + _written(value) + pickle.STOP


def _written(value: object) -> bytes:
    if isinstance(value, Named):
        module, _, name = value.name.rpartition(".")
        called = f"c{module}\n{name}\n".encode() + _written(value.arguments) + pickle.REDUCE
        return called + (b"" if value.state is None else _written(value.state) + pickle.BUILD)
    if isinstance(value, Reference):
        return _written(value.pid) + pickle.BINPERSID
    if isinstance(value, tuple):
        return pickle.MARK + b"".join(map(_written, value)) + pickle.TUPLE
    if isinstance(value, Mapping):
        pairs = b"".join(_written(part) for pair in value.items() for part in pair)
        return pickle.EMPTY_DICT + pickle.MARK + pairs + pickle.SETITEMS
    return pickletools.optimize(pickle.dumps(value, 2))[2:-1]


def module(tensor: object) -> bytes:
    """Write a module with one parameter."""
    return pickled(Named("src.modeling.ImageEncoder", state={"_parameters": {"weight": tensor}}))


def tensor(offset: object, size: object, stride: object, pid: object = STORAGE) -> Named:
    return Named("torch._utils._rebuild_tensor_v2", Reference(pid), offset, size, stride, False, {})


def test_what_is_read_is_the_state_dict(saved: tuple[Path, dict[str, torch.Tensor]]) -> None:
    file, state = saved
    found = Module(file)
    assert list(found.layout) == sorted(state)
    for key, expected in state.items():
        read = found.read(key)
        assert (read.dtype, tuple(read.shape)) == tuple(found.layout[key])
        assert read.dtype == expected.dtype
        assert torch.equal(read, expected)
        assert read.is_contiguous()
    assert "gone_modeling" not in sys.modules
    with pytest.raises(KeyError):
        found.read("mask")


def test_a_module_of_handwritten_opcodes_is_read(tmp_path: Path) -> None:
    file = archive(tmp_path, module(Named("torch._utils._rebuild_parameter", tensor(1, (2, 2), (1, 2)), True, {})))
    assert torch.equal(Module(file).read("weight"), torch.tensor([[1.0, 3.0], [2.0, 4.0]]))


class Malicious:
    def __init__(self, call: object, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    traces = [tmp_path / name for name in ("system", "eval", "mkdir")]
    wicked = [
        Malicious(os.system, f"touch {traces[0]}"),
        Malicious(eval, f"open({str(traces[1])!r}, 'w')"),
        Malicious(os.mkdir, str(traces[2])),
    ]
    with pytest.raises(InputError, match="holds no module with parameters"):
        Module(archive(tmp_path, pickle.dumps({"wicked": wicked}, protocol)))
    assert not any(trace.exists() for trace in traces)


def test_code_that_hides_in_a_module_runs_no_more_than_other_code(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    state = {
        "_parameters": {"weight": tensor(0, (6,), (1,))},
        "__setstate__": Named("os.mkdir", str(trace)),
        "hook": Named("functools.partial", Named("posix.system"), f"touch {trace}"),
        "again": Named("copyreg._reconstructor", Named("builtins.getattr"), f"mkdir {trace}", None, state={"x": 1}),
    }
    file = archive(tmp_path, pickled(Named("src.modeling.ImageEncoder", state=state)))
    assert list(Module(file).layout) == ["weight"]
    assert not trace.exists()


@pytest.mark.parametrize("name", [f"{module}.{name}" for module, name in inert.KNOWN])
def test_nothing_that_a_pickle_can_name_can_be_changed_by_it(tmp_path: Path, name: str) -> None:
    first, _, last = name.rpartition(".")
    for state in ({"__doc__": "mine", "append": 1}, (None, {"__doc__": "mine", "append": 1})):
        changing = (
            pickle.PROTO + b"\x02" + f"c{first}\n{last}\n".encode() + _written(state) + pickle.BUILD + pickle.STOP
        )
        with pytest.raises(InputError, match=DAMAGED):
            Module(archive(tmp_path, changing))
    known = inert.KNOWN[first, last]
    assert known in (OrderedDict, set) or "mine" not in str(known.__doc__)


@pytest.mark.parametrize(
    "shape",
    [
        (0, (7,), (1,)),
        (1, (6,), (1,)),
        (0, (2, 3), (6, 1)),
        (-1, (2,), (1,)),
        (5, (2,), (-1,)),
        (0, (-1,), (1,)),
        (0, (2, 3), (1,)),
        (0, (10**9,), (0,)),
        (0, (2**62, 4), (0, 0)),
        (0, (2.0,), (1,)),
        (0, (True,), (1,)),
        (2**70, (1,), (1,)),
    ],
)
def test_views_beyond_their_storage_are_refused(tmp_path: Path, shape: tuple[object, ...]) -> None:
    with pytest.raises(InputError, match=r"`weight` is damaged: (it is larger than its storage|its shape is no shape)"):
        Module(archive(tmp_path, module(tensor(*shape))))


@pytest.mark.parametrize(
    "pid",
    [
        ("storage", "FloatStorage", "0", "cpu", 2**40),
        ("storage", "FloatStorage", "0", "cpu", 5),
        ("storage", "DoubleStorage", "0", "cpu", 6),
        ("storage", "FloatStorage", "1", "cpu", 6),
        ("storage", "FloatStorage", "../data.pkl", "cpu", 6),
    ],
)
def test_storages_that_are_not_in_the_file_are_refused(tmp_path: Path, pid: tuple[object, ...]) -> None:
    with pytest.raises(InputError, match="`weight` is damaged: its numbers are not beside the pickle, or not as many"):
        Module(archive(tmp_path, module(tensor(0, (1,), (1,), pid))))


@pytest.mark.parametrize(
    "pid", ["storage", (), ("storage", "QUInt8Storage", "0", "cpu", 6), ("storage", Named("os.system"), "0", "cpu", 6)]
)
def test_storages_of_no_known_kind_are_refused(tmp_path: Path, pid: object) -> None:
    with pytest.raises(InputError, match=DAMAGED):
        Module(archive(tmp_path, module(tensor(0, (1,), (1,), pid))))


def test_tensors_of_no_storage_are_refused(tmp_path: Path) -> None:
    for storage in ("FloatStorage", Named("torch.FloatStorage"), (0, 1, 2)):
        made = Named("torch._utils._rebuild_tensor_v2", storage, 0, (1,), (1,))
        with pytest.raises(InputError, match=DAMAGED):
            Module(archive(tmp_path, module(made)))


@pytest.mark.parametrize("names", [("a/data.txt",), ("a/data.pkl", "b/data.pkl")])
def test_archives_without_one_pickle_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    with zipfile.ZipFile(tmp_path / "made.pt", "w") as written:
        for name in names:
            written.writestr(name, module(tensor(0, (6,), (1,))))
    with pytest.raises(InputError, match=DAMAGED):
        Module(tmp_path / "made.pt")


def test_empty_tensors_are_read(tmp_path: Path) -> None:
    file = archive(tmp_path, module(tensor(0, (0, 3), (3, 1), ("storage", "FloatStorage", "0", "cpu", 0))), b"")
    assert Module(file).read("weight").shape == (0, 3)


@pytest.mark.parametrize("packed", ["data.pkl", "data/0"])
def test_small_files_do_not_become_large(tmp_path: Path, packed: str) -> None:
    length = 2**26 // 4
    content = {
        "data.pkl": module(tensor(0, (length,), (1,), ("storage", "FloatStorage", "0", "cpu", length))),
        "data/0": bytes(4 * length),
    }
    content["data.pkl"] += bytes(2**20) if packed == "data.pkl" else b""
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w") as written:
        for name, part in content.items():
            kind = zipfile.ZIP_DEFLATED if name == packed else zipfile.ZIP_STORED
            written.writestr(f"archive/{name}", part, compress_type=kind)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"packed more tightly|not as many as that says"):
            Module(tmp_path / "bomb.pt")
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "opcodes",
    [
        pickle.EMPTY_DICT + pickle.LONG_BINPUT + struct.pack("<I", 2**32 - 1),
        pickle.EMPTY_DICT + pickle.PUT + b"4294967295\n",
        pickle.EMPTY_DICT + pickle.EMPTY_TUPLE + pickle.TUPLE1 * 1_000_000 + pickle.NONE + pickle.SETITEM,
        pickle.BINUNICODE8 + struct.pack("<Q", 2**40),
        pickle.BINBYTES8 + struct.pack("<Q", 2**40),
        pickle.BYTEARRAY8 + struct.pack("<Q", 2**40),
        pickle.LONG4 + struct.pack("<i", 2**31 - 1),
        pickle.INT + b"9" * 100_000 + b"\n",
        pickle.EXT1 + b"\x01",
        pickle.NEXT_BUFFER,
        b"".join(b"ca\n%d\n0" % number for number in range(inert.MOST_NAMES + 1)),
        pickle.EMPTY_LIST * 100_000 + pickle.APPEND * 99_999 + b"ca\nb\n",
    ],
    ids=[
        "memo",
        "old memo",
        "tuples",
        "text",
        "bytes",
        "bytearray",
        "long",
        "digits",
        "ext",
        "buffer",
        "names",
        "junk",
    ],
)
def test_pickles_that_would_fill_memory_or_stack_are_refused(tmp_path: Path, opcodes: bytes) -> None:
    file = archive(tmp_path, pickle.PROTO + b"\x04" + opcodes + pickle.STOP)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"no readable module|holds no module"):
            Module(file)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


def test_modules_inside_of_themselves_and_too_many_are_refused(tmp_path: Path) -> None:
    begin = pickle.PROTO + b"\x02" + b"csrc\nModule\n" + pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.BINPUT + b"\0"
    itself = pickle.EMPTY_DICT + _written("_modules") + pickle.EMPTY_DICT + _written("a") + pickle.BINGET + b"\0"
    for name in (b"a", b"a" * 2000):
        inside = itself.replace(_written("a"), _written(name.decode()))
        file = archive(tmp_path, begin + inside + pickle.SETITEM + pickle.SETITEM + pickle.BUILD + pickle.STOP)
        with pytest.raises(InputError, match="more modules than any encoder"):
            Module(file)
    # Each of forty modules holds the next one twice.
    levels = b"csrc\nModule\n" + pickle.EMPTY_TUPLE + pickle.REDUCE + pickle.BINPUT + b"\0"
    for level in range(40):
        get = pickle.BINGET + bytes([level])
        twice = pickle.EMPTY_DICT + pickle.MARK + _written("a") + get + _written("b") + get + pickle.SETITEMS
        state = pickle.EMPTY_DICT + _written("_modules") + twice + pickle.SETITEM
        levels += b"csrc\nModule\n" + pickle.EMPTY_TUPLE + pickle.REDUCE + state + pickle.BUILD
        levels += pickle.BINPUT + bytes([level + 1])
    with pytest.raises(InputError, match="more modules than any encoder"):
        Module(archive(tmp_path, pickle.PROTO + b"\x02" + levels + pickle.STOP))


@pytest.mark.parametrize("state", [{"_parameters": 3}, {"_modules": {"a": 3, 4: 5}, "_buffers": Named("os.system")}])
def test_what_is_not_as_in_a_module_is_no_part_of_one(tmp_path: Path, state: object) -> None:
    with pytest.raises(InputError, match="holds no module with parameters"):
        Module(archive(tmp_path, pickled(Named("src.modeling.ImageEncoder", state=state))))


def test_numbers_of_another_machine_are_refused(tmp_path: Path) -> None:
    pickle_of_one = module(tensor(0, (6,), (1,)))
    assert torch.equal(Module(archive(tmp_path, pickle_of_one, byteorder=b"little")).read("weight"), torch.arange(6.0))
    with pytest.raises(InputError, match="not in little-endian order"):
        Module(archive(tmp_path, pickle_of_one, byteorder=b"big"))


def test_changed_numbers_are_noticed(saved: tuple[Path, dict[str, torch.Tensor]]) -> None:
    file, state = saved
    content = bytearray(file.read_bytes())
    place = content.index(state["model.1.running_var"].numpy().tobytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match=DAMAGED):
        [Module(file).read(key) for key in state]


def test_a_file_that_changes_meanwhile_is_noticed(saved: tuple[Path, dict[str, torch.Tensor]]) -> None:
    found = Module(saved[0])
    os.utime(saved[0], (0, 0))
    with pytest.raises(InputError, match="has changed since it was opened"):
        found.read("small")


def test_a_file_that_ends_early_is_told(saved: tuple[Path, dict[str, torch.Tensor]]) -> None:
    content = saved[0].read_bytes()
    for length in (len(content) - 1, len(content) // 2, 100):
        saved[0].write_bytes(content[:length])
        with pytest.raises(InputError, match=DAMAGED):
            Module(saved[0])


def test_what_is_no_such_file_is_told(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match=r"no zip file of PyTorch 1\.6 or later; .*load it where you trust it"):
        Module(tmp_path / "old.pt")
    with pytest.raises(InputError, match="the file is missing"):
        Module(tmp_path / "missing.pt")
    with pytest.raises(InputError, match="cannot be read"):
        Module(tmp_path)
