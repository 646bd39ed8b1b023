# SPDX-License-Identifier: MIT
"""The settings of a LoRA adapter, ``adapter_config.json`` in the layout of PEFT.

What is set there may change what the matrices mean. So whatever is set and not known here is refused by its name.
"""

import hashlib
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tsvlib import checkpoints, files
from tsvlib.errors import InputError

CONFIG = checkpoints.ADAPTER
REMEDY = "merge it into its base with the program that made it, and name that model"

# Other ways to use, or to start from, the same two matrices.
_KINDS = {
    "use_dora": "DoRA",
    "kasa_config": "KaSA",
    "use_qalora": "QALoRA",
    "use_bdlora": "BD-LoRA",
    "velora_config": "VeLoRA",
    "monteclora_config": "MonteCLoRA",
    "arrow_config": "Arrow",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "repeated layers",
    "target_parameters": "LoRA of parameters that are no module's weight",
    "trainable_token_indices": "trainable tokens",
    "enable_lora": "LoRA of parts of fused matrices",
}
# Said of how an adapter was trained, of where it belongs, or told as well by the names of its tensors.
_HARMLESS = {
    *("auto_mapping", "base_model_name_or_path", "peft_type", "peft_version", "revision", "task_type"),
    *("bias", "ensure_weight_tying", "exclude_modules", "layers_pattern", "layers_to_transform", "lora_bias"),
    *("corda_config", "eva_config", "inference_mode", "init_lora_weights", "loftq_config", "lora_dropout"),
    *("lora_ga_config", "megatron_config", "megatron_core", "merge_weights", "modules_to_save", "runtime_config"),
    *("alpha_pattern", "fan_in_fan_out", "lora_alpha", "r", "rank_pattern", "target_modules", "use_rslora"),
}
# The other ways to begin, such as PiSSA's, take the first product off the base, which then is another one.
_STARTS = (True, False, None, "eva", "gaussian", "mica", "orthogonal")
_REPEATED = re.compile(r"[*+?{]")
_MOST_REPETITIONS = 3


@dataclass(frozen=True)
class Settings:
    """How the matrices of an adapter count: delta = scaling * B A; ``digest`` is the SHA-256 of the file."""

    path: Path
    digest: str
    r: int
    alpha: float
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    stabilised: bool = False
    transposed: bool = False
    base: str | None = None
    task: str | None = None

    def rank(self, module: str) -> int:
        """Return the rank of the two matrices of a module."""
        return next((rank for pattern, rank in self.ranks.items() if _names(pattern, module)), self.r)

    def scaling(self, module: str) -> float:
        """Return the factor of the product: alpha / r, or alpha / sqrt(r) for a rank-stabilised adapter (rsLoRA)."""
        alpha = next((alpha for pattern, alpha in self.alphas.items() if _names(pattern, module)), self.alpha)
        rank = self.rank(module)
        return alpha / (math.sqrt(rank) if self.stabilised else rank)


def read(path: Path) -> Settings:
    """Return the settings of a file; InputError for what is damaged, out of range, or of a kind that is not known."""
    try:
        with files.opened(path) as file:
            content = file.read()
        found = json.loads(content.decode())
    except OSError as error:
        raise files.unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: the settings are not sound JSON; download or make them again.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: the settings are no JSON object; download or make them again.")
    _check_kind(path, found)
    return Settings(
        path,
        hashlib.sha256(content).hexdigest(),
        _rank(path, "r", found.get("r")),
        _number(path, "lora_alpha", found.get("lora_alpha")),
        {name: _rank(path, "rank_pattern", rank) for name, rank in _patterns(path, found, "rank_pattern")},
        {name: _number(path, "alpha_pattern", alpha) for name, alpha in _patterns(path, found, "alpha_pattern")},
        bool(found.get("use_rslora")),
        bool(found.get("fan_in_fan_out")),
        _text(found.get("base_model_name_or_path")),
        _text(found.get("task_type")),
    )


def _check_kind(path: Path, found: Mapping[str, Any]) -> None:
    if (kind := found.get("peft_type")) != "LORA":
        raise InputError(f"{path}: the adapter is of the kind {kind!r}, and only 'LORA' is known here; {REMEDY}.")
    for name, value in found.items():
        # A number or a text of another version is a setting of something that is switched on elsewhere, or is not.
        switched_on = value is True or (isinstance(value, dict | list) and bool(value))
        if (name in _KINDS and value) or (name not in _HARMLESS and name not in _KINDS and switched_on):
            what = f", so the adapter is {_KINDS[name]}" if name in _KINDS else ""
            raise InputError(f"{path}: `{name}` is set{what}, which is not known here; {REMEDY}.")
    if (start := found.get("init_lora_weights")) not in _STARTS:
        saving = "save it with `path_initial_model_for_weight_conversion`"
        trouble = f"the adapter began as {start!r}, which changes the base as well"
        raise InputError(f"{path}: {trouble} (`init_lora_weights`); {saving}, or {REMEDY}.")


def _patterns(path: Path, found: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    """Return the patterns of modules and their values, once it is sure that each can be searched for in no time."""
    patterns = found.get(name) or {}
    if not isinstance(patterns, dict):
        raise InputError(f"{path}: `{name}` is no JSON object; download or make the settings again.")
    for pattern in patterns:
        try:
            _names(pattern, "")
        except (re.error, RecursionError, OverflowError) as error:
            raise InputError(f"{path}: {pattern!r} in `{name}` is no pattern of names; write the name.") from error
        if len(_REPEATED.findall(pattern)) > _MOST_REPETITIONS or re.search(r"\)[*+{]", pattern):
            raise InputError(f"{path}: {pattern!r} in `{name}` could be searched for endlessly; write the name.")
    return list(patterns.items())


def _names(pattern: str, module: str) -> bool:
    """Tell whether a pattern stands for a module, as PEFT does: for the whole name, or for what follows a full stop."""
    return re.match(rf"(.*\.)?({pattern})$", module) is not None


def _rank(path: Path, name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(
            f"{path}: `{name}` is {value!r}, no rank of at least one; download or make the settings again."
        )
    return value


def _number(path: Path, name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        raise InputError(f"{path}: `{name}` is {value!r}, no finite number; download or make the settings again.")
    return float(value)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
