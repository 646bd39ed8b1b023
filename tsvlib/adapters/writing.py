# SPDX-License-Identifier: MIT
"""An update as one LoRA adapter of a stated rank, in a folder that PEFT loads.

A weight that some expert changes by low rank is there as ``lora_A`` and ``lora_B`` with scaling 1: both have the roots
of the singular values, and zeros where there are fewer of these than the rank. Of what experts have whole, the bias of
such a module stands beside its matrices, and any other module is there with all that it holds (``modules_to_save``).
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from tsvlib import checkpoints, files
from tsvlib.adapters import naming
from tsvlib.adapters.naming import Slot
from tsvlib.adapters.reading import Adapter
from tsvlib.adapters.settings import CONFIG
from tsvlib.checkpoints import ADAPTERS, Checkpoint
from tsvlib.errors import InputError
from tsvlib.linalg import Factors

_REMEDY = "write a whole model instead, without a rank for an adapter"


class Places(NamedTuple):
    """Where one adapter has what several changed; keys are the base's.

    ``slots`` is for weights that some of them change by low rank. ``biases`` has the names of whole tensors beside
    these, ``saved`` those of everything in another module, by its name.
    """

    slots: dict[str, Slot]
    biases: dict[str, str]
    saved: dict[str, dict[str, str]]

    @property
    def whole(self) -> list[str]:
        """Return the keys of all tensors that are there whole."""
        return [*self.biases, *(key for names in self.saved.values() for key in names)]


def places(base: Checkpoint, experts: Sequence[Checkpoint]) -> Places:
    """Return where one adapter can have all that adapters changed.

    InputError for an expert that is no adapter, for adapters that disagree, and for what an adapter has no place for.
    """
    adapters = [_adapter(expert) for expert in experts]
    slots: dict[str, Slot] = {}
    for each in adapters:
        for key, slot in each.slots.items():
            if slots.setdefault(key, slot) != slot:
                raise InputError(f"{each.path}: `{key}` is stored otherwise than in another adapter; {_REMEDY}.")
    stems = {key.removesuffix(".weight"): slot.stem for key, slot in slots.items()}
    found = Places(slots, {}, {})
    for key in sorted({key for each in adapters for key in each.changed} - slots.keys()):
        module, _, leaf = key.rpartition(".")
        if module in stems:
            found.biases[key] = f"{stems[module]}.base_layer.{leaf}"
        elif not module or any(stem.startswith(f"{module}.") for stem in stems):
            raise InputError(f"{base.path}: an adapter has no place for `{key}` of a module with others; {_REMEDY}.")
        else:
            stem = naming.plain(next(each.whole[key] for each in adapters if key in each.whole)).rpartition(".")[0]
            parts = [other.removeprefix(f"{module}.") for other in base.layout if other.startswith(f"{module}.")]
            found.saved[stem] = {f"{module}.{part}": f"{naming.PREFIX}{stem}.{part}" for part in parts}
    return found


def matrices(
    slot: Slot, factors: Factors, rank: int, alpha: float, shape: Sequence[int], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return A and B by their names, for alpha times the leading components of a weight of that shape.

    InputError where ``dtype`` ends before their values.
    """
    root = (abs(alpha) * factors.s[:rank].double()).sqrt()
    tall = _padded(factors.u[:, :rank].double() * root, rank)
    wide = _padded((math.copysign(1, alpha) * root[:, None] * factors.vh[:rank].double()).mT, rank).mT
    a, b = (tall.mT, wide.mT) if slot.is_turned else (wide, tall)
    if slot.form == "kernel":
        a, b = a.reshape(rank, *shape[1:]), b.reshape(*b.shape, *(1 for _ in shape[2:]))
    found = {name: x.to("cpu", dtype).contiguous() for name, x in zip(slot.names, (a, b), strict=True)}
    for name, x in found.items():
        if not bool(x.isfinite().all()):
            raise InputError(f"`{name}` would hold numbers beyond {dtype}; choose the dtype float32.")
    return found


def save(
    folder: Path,
    rank: int,
    held: Places,
    tensors: Mapping[str, Tensor],
    base: Checkpoint,
    experts: Sequence[Checkpoint],
    recipe: Mapping[str, object],
) -> str:
    """Write an adapter with the tensors of these names to a new or empty folder, and return their digest.

    The folder appears complete or not at all; InputError when it cannot be written.
    """
    content = _config(rank, held, tensors, base, [_adapter(expert) for expert in experts])
    with files.replacing_folder(folder) as temporary:
        digest = checkpoints.save(temporary / ADAPTERS[0], tensors, recipe, metadata=checkpoints.for_loaders({}))
        text = json.dumps(content, indent=2, sort_keys=True)
        (temporary / CONFIG).write_text(f"{text}\n", encoding="utf-8")
    return digest


def _adapter(expert: Checkpoint) -> Adapter:
    if isinstance(expert, Adapter):
        return expert
    raise InputError(f"{expert.path}: only adapters are merged into an adapter, and this is none; {_REMEDY}.")


def _padded(x: Float[Tensor, "rows columns"], columns: int) -> Float[Tensor, "rows rank"]:
    return torch.nn.functional.pad(x, (0, columns - x.shape[1]))


def _config(
    rank: int, held: Places, tensors: Mapping[str, Tensor], base: Checkpoint, experts: Sequence[Adapter]
) -> dict[str, object]:
    targets = sorted(naming.plain(slot.stem) for slot in held.slots.values())
    saved = sorted(stem for stem, names in held.saved.items() if tensors.keys() & names.values())
    # Names in the list stand for what ends in them as well.
    modules = {key.rpartition(".")[0] for key in base.layout} - set(targets)
    others = sorted(each for each in modules if any(each.endswith(f".{target}") for target in targets))
    names = {each.settings.base for each in experts}
    tasks = {each.settings.task for each in experts}
    return {
        "base_model_name_or_path": names.pop() if len(names) == 1 else None,
        "bias": "lora_only" if tensors.keys() & held.biases.values() else "none",
        "exclude_modules": others or None,
        "fan_in_fan_out": any(slot.form == "turned" for slot in held.slots.values()),
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "modules_to_save": saved or None,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": targets,
        "task_type": tasks.pop() if len(tasks) == 1 else None,
        "use_rslora": False,
    }
