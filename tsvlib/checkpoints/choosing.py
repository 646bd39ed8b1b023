# SPDX-License-Identifier: MIT
"""By which file a folder is read, laid out as model hubs and libraries do it."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tsvlib import files
from tsvlib.errors import InputError

INDEX = ".index.json"
FORMATS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""How the names of files that hold tensors end."""

HUB = (
    "model.safetensors",
    "model.safetensors.index.json",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.bin.index.json",
    "open_clip_pytorch_model.bin",
)
"""What a folder is read by: safetensors before pickles, what transformers writes before diffusers and open_clip."""

_SHARD = re.compile(r"-\d+-of-\d+\.")
# `model.fp16.safetensors` and `model.safetensors.index.fp16.json` are the same model in another form, a variant.
_NAME = re.compile(r"(\w+?)(?:\.(\w+))?\.(safetensors|bin)(\.index(?:\.(\w+))?\.json)?")


def is_index(name: str) -> bool:
    """Tell whether a file of that name says in which others tensors are.

    >>> is_index("model.safetensors.index.json"), is_index("model.safetensors.index.fp16.json"), is_index("a.json")
    (True, True, False)
    """
    return re.search(r"\.index(\.\w+)?\.json\Z", name) is not None


def is_read_by(name: str) -> bool:
    """Tell whether a folder may be read by a file of that name.

    >>> is_read_by("model.safetensors"), is_read_by("model.fp16.safetensors"), is_read_by("cars.safetensors")
    (True, True, False)
    """
    return _form(name) is not None


def chosen(folder: Path) -> tuple[Path, str]:
    """Return the file that a folder is read by, and a note where that had to be chosen.

    That is the first of ``HUB``, or else the variant, where there is only one. InputError when there is no such file,
    naming what lies there instead.
    """
    names = _listed(folder)
    forms = sorted((found, name) for name in names if (found := _form(name)) and (folder / name).exists())
    variants = {variant: name for (variant, _), name in reversed(forms)}
    if "" in variants:
        return folder / variants[""], ""
    if len(variants) == 1:
        ((variant, name),) = variants.items()
        return folder / name, f"{folder}: of this model there is the variant {variant} alone, and it is read."
    if variants:
        every = " or ".join(str(folder / name) for name in sorted(variants.values()))
        raise InputError(f"{folder}: the folder holds several variants of a model; name {every}.")
    raise InputError(f"{folder}: the folder holds no checkpoint{_instead(folder, names)}.")


def indexes(folder: Path) -> list[Path]:
    """Return all files in a folder that say in which others tensors are."""
    return [folder / name for name in _listed(folder) if is_index(name)]


def beside(folder: Path) -> Iterator[Path]:
    """Yield all files in a folder that it may be read by."""
    return (folder / name for name in _listed(folder) if is_read_by(name))


def _form(name: str) -> tuple[str, int] | None:
    """Return the variant that a name stands for, and how soon it is chosen; nothing for other names."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    stem, of_file, suffix, index, of_index = found.groups()
    plain = f"{stem}.{suffix}{INDEX if index else ''}"
    return (of_file or of_index or "", HUB.index(plain)) if plain in HUB else None


def _instead(folder: Path, names: Sequence[str]) -> str:
    """Say what to do where a folder holds other files with tensors, or folders with models of their own."""
    if own := [name for name in names if name.lower().endswith(FORMATS) and not _SHARD.search(name)]:
        return f" of a name that is known; name the file, such as {folder / own[0]}"
    if inner := [name for name in names if (folder / name).is_dir() and any(map(is_read_by, _listed(folder / name)))]:
        return f" itself, but folders that do; name {' or '.join(str(folder / name) for name in inner)}"
    return f"; put one there, named {' or '.join(HUB)}"


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise files.unreadable(folder, error) from error
