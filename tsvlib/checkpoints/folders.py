# SPDX-License-Identifier: MIT
"""A model as a folder: shards and an index like the base's, and beside them what else loaders read.

Every shard is a file as ``writing`` makes it, with the recipe and a digest of its own.
"""

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tsvlib import files
from tsvlib.checkpoints import choosing, sidefiles
from tsvlib.checkpoints.layout import TensorInfo, file_order
from tsvlib.checkpoints.lazy import Checkpoint, combined
from tsvlib.checkpoints.writing import Writing, finished, for_loaders, writer

_SINGLE = "model.safetensors"


class Shard(NamedTuple):
    """A file of a folder: its name there, its keys in their order, and what it says to other programs."""

    name: str
    keys: tuple[str, ...]
    metadata: dict[str, str]


def shards(base: Checkpoint, layout: Mapping[str, TensorInfo]) -> tuple[Shard, ...]:
    """Return the files that hold tensors where those of the base do, by name.

    Names are those of the base where it is safetensors, and else those that hubs give to such files.
    """
    held: dict[Path, list[str]] = {file: [] for file in base.files}
    notes: dict[Path, dict[str, str]] = {}
    for key in file_order(layout):
        file, notes[file] = base.home(key)
        held[file].append(key)
    names = _names(base)
    every = [Shard(names[file], tuple(keys), for_loaders(notes[file])) for file, keys in held.items() if keys]
    return tuple(sorted(every))


def folder_writer(
    path: Path,
    base: Checkpoint,
    layout: Mapping[str, TensorInfo],
    recipe: Mapping[str, object],
    dtype: str | None = None,
) -> Writing:
    """Write a model as a folder like that of the base, of tensors that are sent one by one, and return its digest.

    They come as the keys of ``shards`` do. ``dtype`` is the type of all weights, if that is not the base's. The folder
    appears complete or not at all; errors as of ``writer``.
    """
    every, digests = shards(base, layout), []
    with files.replacing_folder(path) as temporary:
        for name, keys, metadata in every:
            part = {key: layout[key] for key in keys}
            with closing(writer(temporary / name, part, recipe, metadata=metadata)) as file:
                next(file)
                for _ in keys:
                    # No name here keeps a tensor alive while the next one is made.
                    file.send((yield))
                digests.append(finished(file))
        if (surplus := (yield)) is not None:
            raise ValueError(f"`{surplus[0]}` comes after the last tensor of the layout")
        if base.index:
            text = json.dumps(_index(base.index, every, layout), indent=2, sort_keys=True)
            (temporary / _safetensors(base.index.name, f"{_SINGLE}{choosing.INDEX}")).write_text(
                f"{text}\n", encoding="utf-8"
            )
        sidefiles.copy((base.index or base.files[0]).parent, temporary, dtype)
    return combined(digests)


def _names(base: Checkpoint) -> dict[Path, str]:
    """Return the name of each file in a folder whose index, or single file, loaders find."""
    if base.index is None:
        return {base.files[0]: _safetensors(base.files[0].name, _SINGLE)}
    if all(file.suffix.lower() == ".safetensors" for file in base.files):
        return {file: file.relative_to(base.index.parent).as_posix() for file in base.files}
    every = enumerate(base.files, start=1)
    return {file: f"model-{number:05}-of-{len(base.files):05}.safetensors" for number, file in every}


def _safetensors(name: str, otherwise: str) -> str:
    """Return the name that hubs give to safetensors in the place of that file or index, if they name it at all."""
    if not choosing.is_read_by(name):
        return otherwise
    # Diffusion models have the same name in both formats.
    stem = name if name.startswith("diffusion_") else name.replace("pytorch_model", "model")
    return stem.replace(".bin", ".safetensors")


def _index(base: Path, every: Iterable[Shard], layout: Mapping[str, TensorInfo]) -> dict[str, object]:
    """Return the content of an index, with what the base's says beside the places of tensors."""
    found = json.loads(base.read_text(encoding="utf-8-sig")).get("metadata")
    size = sum(info.nbytes for info in layout.values())
    notes = (found if isinstance(found, dict) else {}) | {"total_size": size}
    return {"metadata": notes, "weight_map": {key: shard.name for shard in every for key in shard.keys}}
