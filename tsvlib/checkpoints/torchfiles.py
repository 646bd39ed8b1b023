# SPDX-License-Identifier: MIT
"""Files of ``torch.save``, mapped into memory; code in their pickles is never run."""

import hashlib
import os
import re
import warnings
from argparse import Namespace
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tsvlib import exhaustion, files
from tsvlib.checkpoints.layout import NAMES, TensorInfo, info
from tsvlib.checkpoints.sources import REMEDY, Inspection, Source
from tsvlib.errors import InputError
from tsvlib.precision import is_finite
from tsvlib.selection.sources import GLIMPSE, same_memory

NESTED = ("state_dict", "model_state_dict", "model", "teacher", "model_ema", "state_dict_ema", "ema", "module", "net")
"""Under which names training scripts save a state dict among other things; the first that is there is read."""

_DEPTH = 4
"""How deep a state dict may lie in others; damaged files may hold themselves."""

_PLAIN = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_RESAVE = "save the model's state dict alone with torch.save and try again"


class TorchFile:
    """One file of ``torch.save``; ``layout`` is sorted by key.

    A state dict under one of the names ``NESTED`` is unwrapped, and what lies beside it left out; ``notes`` tell where
    that might be another model. InputError when the file is damaged, holds more than plain tensors, or is older than
    the zip format of PyTorch 1.6.
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
        found, others = _unwrapped(_unpickled(path))
        self._tensors = _state(path, found)
        self.notes = (_told(path, others),) if len(others) > 1 else ()
        self.layout: dict[str, TensorInfo] = {key: info(tensor) for key, tensor in self._tensors.items()}

    @cached_property
    def shared(self) -> dict[str, str]:
        """Return, for tensors that are the same memory as others, the first name of these."""
        return same_memory(self._tensors.items())

    def read(self, key: str) -> Tensor:
        """Return one tensor in memory of its own; InputError when the file has changed since it was opened."""
        # Checked first, because reading beyond the end of a mapped file would kill the process.
        with self._source.open():
            return self._tensors[key].clone(memory_format=torch.contiguous_format)

    def glimpse(self, key: str) -> Tensor:
        """Return the first numbers of a tensor, at most ``GLIMPSE``."""
        with self._source.open():
            return self._tensors[key].reshape(-1)[:GLIMPSE].clone()

    def inspect(self) -> Inspection:
        """Return the SHA-256 of the file, and which of its tensors hold NaN or Inf."""
        with self._source.open() as file:
            floats = ((key, tensor) for key, tensor in self._tensors.items() if tensor.is_floating_point())
            unsound = frozenset(key for key, tensor in floats if not is_finite(tensor))
            return Inspection(hashlib.file_digest(file, "sha256").hexdigest(), unsound)


def _unwrapped(found: Any) -> tuple[Any, list[str]]:
    """Return the state dict among what a training script saved, and the names of all that there are, its own first."""
    others: list[str] = []
    for _ in range(_DEPTH):
        every = found if isinstance(found, Mapping) else {}
        named = [name for name in NESTED if _holds_tensors(every.get(name)) or _is_named_so(name, every)]
        if not named:
            break
        beside = [str(name) for name, value in every.items() if name != named[0] and _is_state(value)]
        others, found = [named[0], *beside], every[named[0]]
    return found, others


def _is_named_so(name: str, every: Mapping[Any, Any]) -> bool:
    return name in NESTED[:2] and isinstance(every.get(name), Mapping)


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(name, str) and isinstance(each, Tensor) for name, each in value.items()
    )


def _holds_tensors(value: object, depth: int = _DEPTH) -> bool:
    return (
        isinstance(value, Mapping)
        and depth > 0
        and any(isinstance(each, Tensor) or _holds_tensors(each, depth - 1) for each in value.values())
    )


def _told(path: Path, names: list[str]) -> str:
    first, *others = (f"`{name}`" for name in names)
    return f"{path}: of the state dicts that it holds, {first} is read, and not {', '.join(others)}."


def _state(path: Path, found: Any) -> dict[str, Tensor]:
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: the file holds a {type(found).__name__}, not a state dict; {_RESAVE}.")
    for key, value in found.items():
        if not _is_text(key) or not isinstance(value, Tensor):
            raise InputError(f"{path}: `{key}` is a {type(value).__name__}, not a tensor with a name; {_RESAVE}.")
        if value.layout != torch.strided or value.device.type != "cpu":
            kind = f"{value.layout} tensor on device {value.device.type}"
            raise InputError(f"{path}: `{key}` is a {kind}; convert it to a plain tensor with values and save again.")
        if value.dtype not in NAMES:
            kinds = ", ".join(map(str, _PLAIN))
            raise InputError(f"{path}: `{key}` is of type {value.dtype}; convert it to one of {kinds} and save again.")
    return {key: value.detach() for key, value in sorted(found.items())}


def _is_text(key: object) -> bool:
    """Tell whether a key is a text that a file of another format can hold, too."""
    try:
        return isinstance(key, str) and bool(key.encode() or True)
    except UnicodeEncodeError:
        return False


def _unpickled(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), files.opened(path) as file:
            # What the warnings tell (archives of TorchScript, sparse tensors) is refused here with a sentence.
            warnings.simplefilter("ignore")
            # What scripts put beside their models; of it, nothing but attributes is set.
            torch.serialization.add_safe_globals([Namespace])
            # PyTorch knows no other names than those in UTF-8.
            spelt = os.fspath(path) if _is_text(os.fspath(path)) else f"/dev/fd/{file.fileno()}"
            return torch.load(spelt, weights_only=True, mmap=True, map_location="cpu")
    except Exception as error:  # damaged pickles raise whatever their bytes happen to mean
        if exhaustion.is_told_by(error):
            raise
        text = str(error)
        if "TorchScript" in text:
            trouble = f"a TorchScript program, which is never run; {_RESAVE}"
        elif name := re.search(r"GLOBAL ([\w.]+)", text):
            trouble = f"more than tensors ({name[1]}), which is never run; {_RESAVE}"
        else:
            trouble = f"no readable state dict, perhaps because it is damaged; {REMEDY}"
        raise InputError(f"{path}: the file holds {trouble}.") from error
