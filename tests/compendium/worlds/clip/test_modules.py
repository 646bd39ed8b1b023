# SPDX-License-Identifier: MIT
"""Pickled modules give their tensors, and whatever else is in the pickle is never run."""

import os
import pickle
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from compendium.worlds.clip import modules
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


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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


def test_what_is_read_is_the_state_dict(saved: tuple[Path, dict[str, torch.Tensor]]) -> None:
    file, state = saved
    found = modules.read_module(file)
    assert found.keys() == state.keys()
    for key, tensor in found.items():
        assert tensor.dtype == state[key].dtype
        assert torch.equal(tensor, state[key])
        assert tensor.is_contiguous()
    assert "gone_modeling" not in sys.modules


class Malicious:
    def __init__(self, call: object, *arguments: object) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    traces = [tmp_path / name for name in ("system", "eval", "mkdir")]
    wicked = [
        Malicious(os.system, f"touch {traces[0]}"),
        Malicious(eval, f"open({str(traces[1])!r}, 'w')"),
        Malicious(os.mkdir, str(traces[2])),
    ]
    with zipfile.ZipFile(tmp_path / "finetuned.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"wicked": wicked}, protocol))
    with pytest.raises(InputError, match="holds no module with parameters"):
        modules.read_module(tmp_path / "finetuned.pt")
    assert not any(trace.exists() for trace in traces)


def test_views_beyond_their_storage_are_refused(tmp_path: Path, saved: tuple[Path, dict[str, torch.Tensor]]) -> None:
    changed = tmp_path / "changed.pt"
    with zipfile.ZipFile(saved[0]) as before, zipfile.ZipFile(changed, "w") as after:
        for name in before.namelist():
            content = before.read(name)
            after.writestr(name, content[:8] if "/data/" in name else content)
    with pytest.raises(InputError, match="damaged; download it again"):
        modules.read_module(changed)


def test_what_is_no_such_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "finetuned.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no readable module"):
        modules.read_module(tmp_path / "finetuned.pt")
    with pytest.raises(InputError, match="cannot be read"):
        modules.read_module(tmp_path / "missing.pt")
