# SPDX-License-Identifier: MIT
"""Files of torch.save are read without ever running code that they hold."""

import os
import pickle
import warnings
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from foreign import refused, same, state
from torch import Tensor

from tsvlib.checkpoints import TensorInfo, open_checkpoint
from tsvlib.checkpoints.torchfiles import NESTED
from tsvlib.errors import InputError


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (self.folder,)


def module() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".PT"])
def test_state_dict(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    torch.save(state(), path)
    checkpoint = open_checkpoint(path)
    assert same(checkpoint, state())
    assert checkpoint.files == (path,)
    assert checkpoint.metadata == {}


def test_state_dict_of_a_module_with_buffers(tmp_path: Path) -> None:
    expected = module().state_dict()
    torch.save(expected, tmp_path / "a.pt")
    assert same(open_checkpoint(tmp_path / "a.pt"), dict(expected))


@pytest.mark.parametrize("suffix", [".pt", ".ckpt"])
@pytest.mark.parametrize("name", NESTED)
def test_nested_state_dict_is_unwrapped(tmp_path: Path, name: str, suffix: str) -> None:
    moments = {"state": {0: {"exp_avg": torch.ones(2)}}, "lr": 0.1}
    beside = {"epoch": 3, "optimizer": moments, "args": Namespace(lr=0.1, layers=[1, 2])}
    for content in ({name: state()}, {"model_state_dict": {name: state()}}, {name: {"state_dict": state()}}):
        torch.save(beside | content, tmp_path / f"a{suffix}")
        checkpoint = open_checkpoint(tmp_path / f"a{suffix}")
        assert same(checkpoint, state())
        assert checkpoint.notes == ()


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("model", "model_ema"), "`model` is read, and not `model_ema`"),
        (("student", "teacher"), "`teacher` is read, and not `student`"),
        (("model_ema", "state_dict", "loss"), "`state_dict` is read, and not `model_ema`, `loss`"),
    ],
)
def test_of_several_state_dicts_the_one_that_is_read_is_told(tmp_path: Path, names: tuple[str, ...], told: str) -> None:
    other = {"w": torch.ones(2)}
    wanted = told.split("`")[1]
    torch.save({name: state() if name == wanted else other for name in names}, tmp_path / "a.pt")
    checkpoint = open_checkpoint(tmp_path / "a.pt")
    assert same(checkpoint, state())
    assert checkpoint.notes == (f"{tmp_path / 'a.pt'}: of the state dicts that it holds, {told}.",)


def test_a_settings_dict_of_such_a_name_is_no_state_dict(tmp_path: Path) -> None:
    torch.save({"model": {"depth": 3}, "net": state()}, tmp_path / "a.pt")
    assert same(open_checkpoint(tmp_path / "a.pt"), state())


def test_a_file_that_holds_itself_is_refused(tmp_path: Path) -> None:
    content: dict[str, object] = {"w": torch.ones(2), "epoch": 3}
    content["model"] = content["state_dict"] = content
    torch.save(content, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "not a tensor with a name")


def test_tensors_of_one_memory_are_known(tmp_path: Path) -> None:
    whole = torch.randn(4, 3)
    tensors = {"head": whole, "embed": whole, "turned": whole.T, "row": whole[:1], "other": whole.clone()}
    torch.save(tensors, tmp_path / "a.pt")
    assert open_checkpoint(tmp_path / "a.pt").shared == {"embed": "embed", "head": "embed"}


def test_tensor_that_is_only_called_so_is_not_unwrapped(tmp_path: Path) -> None:
    torch.save({"state_dict": torch.ones(2)}, tmp_path / "a.pt")
    assert same(open_checkpoint(tmp_path / "a.pt"), {"state_dict": torch.ones(2)})


def test_views_parameters_and_shared_memory_become_plain_tensors(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {"t": whole.T, "row": whole[1:2], "parameter": torch.nn.Parameter(whole), "step": whole[:, ::2]}
    torch.save(tensors, tmp_path / "a.pt")
    checkpoint = open_checkpoint(tmp_path / "a.pt")
    assert same(checkpoint, {key: tensor.detach() for key, tensor in tensors.items()})
    for key in tensors:
        tensor = checkpoint.read(key)
        assert tensor.is_contiguous()
        assert not tensor.requires_grad
        assert tensor.untyped_storage().nbytes() == checkpoint.layout[key].nbytes
        tensor.zero_()
    assert torch.equal(checkpoint.read("t"), whole.T)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system does not tell what is mapped")
def test_tensors_are_left_on_disk_until_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(state(), path)
    checkpoint = open_checkpoint(path)
    assert str(path) in Path("/proc/self/maps").read_text()
    assert same(checkpoint, state())


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    trap, path = tmp_path / "sprung", tmp_path / "a.pt"
    tensors = {"w": torch.ones(2), "trap": Trap(trap)}
    torch.save(tensors, path)
    message = refused(path, "which is never run")
    assert "mkdir" in message
    torch.save({"state_dict": {"w": torch.ones(2)}, "optimizer": Trap(trap)}, path)
    refused(path, "which is never run")
    torch.save(tensors, path, _use_new_zipfile_serialization=False)
    refused(path, "no zip file of PyTorch 1.6 or later")
    path.write_bytes(pickle.dumps(tensors))
    refused(path, "no zip file of PyTorch 1.6 or later")
    assert not trap.exists()
    # The trap works: what a careless reader would do makes the folder.
    pickle.loads(path.read_bytes())
    assert trap.exists()


def test_whole_modules_and_programs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(module(), path)
    refused(path, "more than tensors (torch.nn.modules.container.Sequential), which is never run")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(3, 2)), path)
    refused(path, "a TorchScript program, which is never run")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"w": torch.ones(2), "epoch": 3}, "`epoch` is a int, not a tensor"),
        ({"w": torch.ones(2), "note": "text"}, "`note` is a str, not a tensor"),
        ({"block": {"w": torch.ones(2)}}, "`block` is a dict, not a tensor"),
        ({"state_dict": {"w": None}}, "`w` is a NoneType, not a tensor"),
        ({1: torch.ones(2)}, "`1` is a Tensor, not a tensor with a name"),
        ([torch.ones(2)], "holds a list, not a state dict"),
        (torch.ones(2), "holds a Tensor, not a state dict"),
        ({"w": torch.eye(2).to_sparse()}, "`w` is a torch.sparse_coo tensor"),
        (
            {"w": torch.ones(2, dtype=torch.complex64)},
            "`w` is of type torch.complex64; convert it to one of",
        ),
        ({"w": torch.ones(2, dtype=torch.float8_e4m3fn)}, "of type torch.float8_e4m3fn"),
        ({"w": torch.ones(2, device="meta")}, "on device meta"),
    ],
)
def test_what_is_no_plain_state_dict_is_named(tmp_path: Path, value: object, reason: str) -> None:
    torch.save(value, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", reason)


def test_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(3)}, path)
    content = path.read_bytes()
    for length in [*range(0, len(content), 13), len(content) - 1]:
        path.write_bytes(content[:length])
        assert "download or make it again" in refused(path, "the file ")


@pytest.mark.parametrize("change", [0x01, 0xFF])
def test_changed_bytes_lead_to_one_sentence_or_to_tensors(tmp_path: Path, change: int) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.ones(3), "scale": torch.tensor(2.0).half()}, path)
    content, outcomes = path.read_bytes(), set()
    for position in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[position] ^= change
        path.write_bytes(damaged)
        try:
            checkpoint = open_checkpoint(path)
            found: dict[str, Tensor] = {key: checkpoint.read(key) for key in checkpoint.layout}
        except InputError as error:
            outcomes.add(str(error).startswith(f"{path}: ") and str(error).count("\n") == 0)
        else:
            infos = {key: TensorInfo(tensor.dtype, tuple(tensor.shape)) for key, tensor in found.items()}
            outcomes.add(infos == checkpoint.layout)
    assert outcomes == {True}
