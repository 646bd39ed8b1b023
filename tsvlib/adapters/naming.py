# SPDX-License-Identifier: MIT
"""What the tensors of an adapter stand for, known from their names and shapes.

| in the adapter's file, after ``base_model.model.`` | is |
|---|---|
| ``M.lora_A.weight``, ``M.lora_B.weight`` | scaling * B A, added to ``M.weight`` |
| the same for a kernel | the same, with a row per output channel |
| ``M.lora_embedding_A``, ``M.lora_embedding_B`` | scaling * (B A)ᵀ, added to ``M.weight`` of an embedding |
| ``M.lora_B.bias`` | scaling times it, added to ``M.bias`` |
| any other tensor (``modules_to_save``, ``bias``, saved embeddings) | that tensor of the expert, whole, in place of the base's |

``base_layer`` and ``modules_to_save`` in a name are PEFT's own and left out; ``original_module`` is a copy of the base.
A weight that is stored as inputs x outputs (``fan_in_fan_out``) is known by its shape; where it is square the settings
decide, unless other modules contradict them, as in models that have both kinds. Names may differ from the base's by one
leading word, such as ``bert.``, that either all of them have or none.

Adapters of ``torch.nn.MultiheadAttention`` are refused: PEFT (0.21) adds the product for its ``out_proj`` twice, when it
trains as when it merges, so that its own merged model is the only sure record of what was trained.
"""  # noqa: E501  (rows of a table)

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn

from tsvlib.adapters.settings import REMEDY, Settings
from tsvlib.checkpoints import TensorInfo
from tsvlib.errors import InputError

PREFIX = "base_model.model."
_BASE = "name the base that it was trained on"
_OWN = re.compile(r"(?:^|(?<=\.))base_layer\.")
_SAVED = re.compile(r"\.modules_to_save\.(?:default\.)?")
_FACTOR = re.compile(r"(.+)\.lora_(A|B|embedding_A|embedding_B)(?:\.default)?(?:\.(weight|bias))?")
# How other kinds of adapters name their tensors.
_OTHERS = {
    "lora_magnitude_vector": "DoRA",
    "lora_diag": "KaSA",
    "lora_E": "AdaLoRA",
    "lora_down": "LoRA in the layout of kohya-ss",
    "hada_w": "LoHa",
    "lokr_w": "LoKr",
    "ia3_l": "IA3",
    "oft_r": "OFT",
    "vera_lambda": "VeRA",
    "trainable_tokens": "trainable tokens",
}
_MARK = re.compile(rf"(?:^|\.)(lora_A|lora_embedding_A|{'|'.join(_OTHERS)})")
Layout = Mapping[str, TensorInfo]
Form = Literal["linear", "turned", "embedding", "kernel"]


class Slot(NamedTuple):
    """Where the two matrices of a weight stand in an adapter, ``stem``, and how they make it."""

    stem: str
    form: Form

    @property
    def is_turned(self) -> bool:
        """Tell whether the weight is the transpose of B A."""
        return self.form in ("turned", "embedding")

    @property
    def names(self) -> tuple[str, str]:
        """Return the names of A and B."""
        kind, end = ("embedding_", "") if self.form == "embedding" else ("", ".weight")
        return f"{self.stem}.lora_{kind}A{end}", f"{self.stem}.lora_{kind}B{end}"


class Pair(NamedTuple):
    """The two matrices of a weight: their slot, names and rank, and the factor of their product."""

    slot: Slot
    a: str
    b: str
    rank: int
    scaling: float


class Entries(NamedTuple):
    """What an adapter has for tensors of the base: pairs, what is added to biases, and the names of whole tensors."""

    pairs: dict[str, Pair]
    biases: dict[str, tuple[str, float]]
    whole: dict[str, str]


class _Module(NamedTuple):
    stem: str
    factors: dict[str, str]
    """Names in the file, by ``A``, ``B``, ``embedding_A``, ``embedding_B`` or ``bias``."""


def is_adapter(path: Path, layout: Layout) -> bool:
    """Tell by their names whether tensors are an adapter's; InputError for another kind of adapter than LoRA."""
    found = [mark[1] for name in layout if (mark := _MARK.search(name))]
    if kind := next((_OTHERS[mark] for mark in found if mark in _OTHERS), None):
        raise InputError(f"{path}: the adapter is {kind}, which is not known here; {REMEDY}.")
    return bool(found)


def plain(name: str) -> str:
    """Return the name that a tensor or module of an adapter has in the model.

    >>> plain("base_model.model.bert.pooler.base_layer.bias"), plain("base_model.model.head.modules_to_save.bias")
    ('bert.pooler.bias', 'head.bias')
    """
    return _SAVED.sub(".", _OWN.sub("", name.removeprefix(PREFIX)))


def entries(path: Path, layout: Layout, settings: Settings, base: Layout) -> Entries:
    """Return what tensors of an adapter are for; InputError, naming ``path``, for what fits no base or settings."""
    modules, whole = _sorted(path, layout)
    placed = _placing(path, list(modules), base)
    pairs, biases = {}, {}
    for name, module in modules.items():
        if added := module.factors.pop("bias", None):
            key = f"{placed(name)}.bias"
            if key not in base or layout[added].shape != base[key].shape:
                _misfit(path, name, layout[added].shape, key, base)
            biases[key] = (added, settings.scaling(name))
        key = f"{placed(name)}.weight"
        pairs[key] = _pair(path, name, module, layout, settings, key, base)
    _check_squares(path, settings, pairs, base)
    return Entries(pairs, biases, {placed(key) if placed(key) in base else key: name for key, name in whole.items()})


def _sorted(path: Path, layout: Layout) -> tuple[dict[str, _Module], dict[str, str]]:
    """Return the matrices of each module, and the names of all other tensors by their names in a model."""
    modules: dict[str, _Module] = {}
    whole: dict[str, str] = {}
    # A tensor that stands there twice is first met under its plain name.
    for name in sorted(layout, key=lambda name: (bool(_SAVED.search(name)), name)):
        found = _FACTOR.fullmatch(plain(name))
        if not found:
            if ".original_module." not in name:
                whole.setdefault(plain(name), name)
            continue
        module, side, part = found.groups()
        if (side, part) == ("B", "bias"):
            side = "bias"
        elif part != (None if side.startswith("embedding") else "weight") or not layout[name].dtype.is_floating_point:
            raise InputError(f"{path}: `{name}` is no matrix of LoRA that is known here; {REMEDY}.")
        modules.setdefault(module, _Module(name[: name.rindex(".lora_")], {})).factors[side] = name
    return modules, whole


def _placing(path: Path, modules: list[str], base: Layout) -> Callable[[str], str]:
    """Return what makes names in the base of names in the adapter."""
    if fused := [name for name in modules if f"{name}.in_proj_weight" in base]:
        what = f"`{fused[0]}` is a fused attention layer, whose adapters PEFT counts in a way of its own"
        raise InputError(f"{path}: {what}; {REMEDY}.")
    firsts = sorted({key.split(".")[0] for key in base if "." in key})
    ways: list[Callable[[str], str]] = [str, *(f"{first}.{{}}".format for first in firsts), _without_first]
    fitting = [way for way in ways if all(f"{way(name)}.weight" in base for name in modules)]
    if fitting and (fitting[0] is str or len(fitting) == 1):
        return fitting[0]
    lacking = next((name for name in modules if f"{name}.weight" not in base), modules[0])
    raise InputError(f"{path}: the adapter changes `{lacking}`, which the base does not hold; {_BASE}.")


def _without_first(name: str) -> str:
    return name.partition(".")[2]


def _pair(path: Path, name: str, module: _Module, layout: Layout, settings: Settings, key: str, base: Layout) -> Pair:
    """Return the two matrices of a module, once it is sure that they make a matrix of the base."""
    sides = ("embedding_A", "embedding_B") if "embedding_A" in module.factors else ("A", "B")
    if odd := module.factors.keys() ^ set(sides):
        raise InputError(f"{path}: `{name}` has no pair of matrices (`lora_{min(odd)}` is odd); {REMEDY}.")
    a, b = (module.factors[side] for side in sides)
    (rank, *inputs), (output, *ends) = (layout[factor].shape or (0,) for factor in (a, b))
    if not inputs or ends[:1] != [rank] or rank != settings.rank(name) or set(ends[1:]) - {1}:
        shapes = f"{tuple(layout[a].shape)} and {tuple(layout[b].shape)}"
        trouble = f"the matrices of `{name}` have shapes {shapes}, and rank {settings.rank(name)} in {settings.path}"
        raise InputError(f"{path}: {trouble}; use two files that belong together.")
    made = _forms("embedding" in sides[0], (output, *inputs), settings)
    fitting = [form for form, shape in made.items() if shape == base[key].shape]
    if not fitting:
        _misfit(path, name, next(iter(made.values())), key, base)
    return Pair(Slot(module.stem, fitting[0]), a, b, rank, settings.scaling(name))


def _forms(is_embedding: bool, shape: tuple[int, ...], settings: Settings) -> dict[Form, tuple[int, ...]]:
    """Return the shapes of weights that B A may make, by how; where two are the same, the first one counts."""
    if is_embedding:
        return {"embedding": shape[::-1]}
    if len(shape) > 2:
        return {"kernel": shape}
    return {"turned": shape[::-1], "linear": shape} if settings.transposed else {"linear": shape, "turned": shape[::-1]}


def _check_squares(path: Path, settings: Settings, pairs: Mapping[str, Pair], base: Layout) -> None:
    """Raise InputError where nothing tells whether a square weight is stored transposed."""
    either = {key: pair.slot.form for key, pair in pairs.items() if pair.slot.form in ("linear", "turned")}
    squares = [key for key in either if base[key].shape[0] == base[key].shape[1]]
    told = "turned" if settings.transposed else "linear"
    against = [key for key, form in either.items() if form != told]
    if squares and against:
        trouble = f"`fan_in_fan_out` in {settings.path} is wrong for `{against[0]}`, so nothing tells how the square"
        raise InputError(f"{path}: {trouble} `{squares[0]}` is stored; {REMEDY}.")


def _misfit(path: Path, name: str, shape: tuple[int, ...], key: str, base: Layout) -> NoReturn:
    there = tuple(base[key].shape) if key in base else "nothing"
    raise InputError(f"{path}: what `{name}` adds has shape {tuple(shape)}, but `{key}` of the base {there}; {_BASE}.")
