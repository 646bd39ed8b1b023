# SPDX-License-Identifier: MIT
"""Files of ``torch.save``, mapped into memory; code in their pickles is never run."""

import hashlib
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tsvlib.checkpoints.layout import NAMES, TensorInfo, info
from tsvlib.checkpoints.sources import REMEDY, Source
from tsvlib.errors import InputError

_NESTED = ("state_dict", "model_state_dict")
_RESAVE = "save the model's state dict alone with torch.save and try again"


class TorchFile:
    """One file of ``torch.save``; ``layout`` is sorted by key.

    A state dict under "state_dict" or "model_state_dict" is unwrapped, and what lies beside it left out. InputError
    when the file is damaged, holds more than plain tensors, or is older than the zip format of PyTorch 1.6.
    """

    def __init__(self, path: Path):
        self.path = path
        self.metadata: dict[str, str] = {}
        self._source = Source(path)
        if self._source.is_safetensors:
            raise InputError(
                f"{path}: the file holds safetensors under another name; rename it to end in .safetensors."
            )
        if not self._source.is_zip:
            older = "load it where you trust it and save its state dict with torch.save"
            raise InputError(f"{path}: the file is no zip file of PyTorch 1.6 or later; {REMEDY}, or {older}.")
        self._tensors = _state(path)
        self.layout: dict[str, TensorInfo] = {key: info(tensor) for key, tensor in self._tensors.items()}

    def read(self, key: str) -> Tensor:
        """Return one tensor in memory of its own; InputError when the file has changed since it was opened."""
        # Checked first, because reading beyond the end of a mapped file would kill the process.
        with self._source.open():
            return self._tensors[key].clone(memory_format=torch.contiguous_format)

    def inspect(self) -> str:
        """Return the SHA-256 of the file; InputError at the first tensor that holds NaN or Inf."""
        with self._source.open() as file:
            for key, tensor in self._tensors.items():
                self._source.check_finite(key, tensor)
            return hashlib.file_digest(file, "sha256").hexdigest()


def _state(path: Path) -> dict[str, Tensor]:
    found = _unpickled(path)
    if isinstance(found, Mapping):
        found = next((found[name] for name in _NESTED if isinstance(found.get(name), Mapping)), found)
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: the file holds a {type(found).__name__}, not a state dict; {_RESAVE}.")
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(f"{path}: `{key}` is a {type(value).__name__}, not a tensor with a name; {_RESAVE}.")
        if value.dtype not in NAMES or value.layout != torch.strided or value.device.type != "cpu":
            kind = f"{value.layout} tensor of type {value.dtype} on device {value.device.type}"
            raise InputError(f"{path}: `{key}` is a {kind}; convert it to a plain tensor with values and save again.")
    return {key: value.detach() for key, value in sorted(found.items())}


def _unpickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # What the warnings tell (archives of TorchScript, sparse tensors) is refused here with a sentence.
            warnings.simplefilter("ignore")
            return torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except Exception as error:  # damaged pickles raise whatever their bytes happen to mean
        text = str(error)
        if "TorchScript" in text:
            trouble = f"a TorchScript program, which is never run; {_RESAVE}"
        elif name := re.search(r"GLOBAL ([\w.]+)", text):
            trouble = f"more than tensors ({name[1]}), which is never run; {_RESAVE}"
        else:
            trouble = f"no readable state dict, perhaps because it is damaged; {REMEDY}"
        raise InputError(f"{path}: the file holds {trouble}.") from error
