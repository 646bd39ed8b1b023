# SPDX-License-Identifier: MIT
"""Predicted classes: which are known of a model, how those that are not are made, and the files that keep them.

Files are found by the content of a model's weights; a key in a file by that of head, inputs and encoder. So nothing
stale can be returned, whatever has changed.
"""

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from compendium.worlds.protocol import Features, Inputs
from tsvlib import devices, files

CLASS = np.dtype("<u2")
"""How predicted classes are kept: as the base64 text of such numbers."""

UNIT = 2000
"""Inputs that are worth a unit of their own on a cluster."""

READERS = 2
"""Threads that feed a GPU: while it encodes what one has sent, the other one reads."""


class Wanted(NamedTuple):
    """What is still to be predicted of one split: under which key, what is known so far, and how many in all."""

    key: str
    known: bytes
    stop: int

    @property
    def start(self) -> int:
        """Return how many are known."""
        return len(self.known) // CLASS.itemsize


Part = tuple[str, int, int]
"""Inputs that are encoded at once: their task, the first of them, and the one after the last."""


class Model(NamedTuple):
    """A model of which something is wanted: what encodes inputs, that by task, and the folder that keeps it."""

    features: Features
    wanted: Mapping[str, Wanted]
    folder: Path


class Split(NamedTuple):
    """The inputs of a task, read a range at a time, and the head that classifies their features."""

    inputs: Inputs
    head: Tensor


def wanted_of(folder: Path, keys: Mapping[str, str], stops: Mapping[str, int]) -> dict[str, Wanted]:
    """Return of each task what is not known yet, of the first ``stops`` of its inputs."""
    kept = _read(folder)
    every = {task: Wanted(key, b64decode(kept.get(key, "")), stops[task]) for task, key in keys.items()}
    return {task: each for task, each in every.items() if each.start < each.stop}


def known(folder: Path, keys: Mapping[str, str], most: int | None) -> dict[str, Int64[Tensor, " n"]]:
    """Return the classes that are kept of each task, of all inputs or the first ``most``; KeyError where none are."""
    kept = _read(folder)
    return {
        task: torch.from_numpy(np.frombuffer(b64decode(kept[key]), CLASS)[:most].astype("i8"))
        for task, key in keys.items()
    }


def predict(
    models: Sequence[Model], split: Callable[[str], Split], batch: int, device: torch.device, workers: int
) -> None:
    """Predict what is wanted of each model and keep it; each batch of inputs is read once for all of them.

    Where there are fewer batches than workers, some of these share the models of a batch, and read it, too.

    Args:
        models: whose predictions are wanted.
        split: from the name of a task to its inputs and head.
        batch: inputs to encode at once.
        device: where the models encode.
        workers: threads that share the batches.
    """
    found = [{task: each.known for task, each in model.wanted.items()} for model in models]
    parts = _parts(models, batch)
    shares = max(1, workers // max(1, len(parts)))

    def classes(item: tuple[Part, list[int]]) -> list[tuple[int, str, bytes]]:
        (task, start, stop), numbers = item
        inputs, head = split(task)
        some = _sent(inputs[start:stop], device)
        logits = ((number, models[number].features(some) @ head.T) for number in numbers)
        return [(number, task, each.argmax(1).numpy().astype(CLASS).tobytes()) for number, each in logits]

    # In the order of inputs, whichever model asked for them first.
    items = [(part, parts[part][share::shares]) for part in sorted(parts) for share in range(shares)]
    for predicted in devices.ordered(classes, [item for item in items if item[1]], workers):
        for number, task, content in predicted:
            found[number][task] += content
    for model, contents in zip(models, found, strict=True):
        _keep(model, contents)


def shared(wanted: Mapping[str, Wanted]) -> list[dict[str, Wanted]]:
    """Share tasks out among units, each with inputs enough to be worth it."""
    units: list[dict[str, Wanted]] = [{}]
    for task, each in wanted.items():
        if sum(mine.stop - mine.start for mine in units[-1].values()) >= UNIT:
            units.append({})
        units[-1][task] = each
    return units


def _parts(models: Sequence[Model], batch: int) -> dict[Part, list[int]]:
    """Return all inputs that some models want, with the numbers of these."""
    parts: dict[Part, list[int]] = {}
    for number, model in enumerate(models):
        for task, each in model.wanted.items():
            for start in range(each.start, each.stop, batch):
                parts.setdefault((task, start, min(start + batch, each.stop)), []).append(number)
    return parts


def _sent(inputs: Tensor, device: torch.device) -> Tensor:
    """Return inputs on a device; on the way to a GPU whoever sends them can do something else."""
    return inputs if device.type == "cpu" else inputs.pin_memory().to(device, non_blocking=True)


def _keep(model: Model, contents: Mapping[str, bytes]) -> None:
    """Write all that is known of some tasks by now into one file."""
    kept = {model.wanted[task].key: b64encode(content).decode() for task, content in contents.items()}
    text = json.dumps(kept, indent=1, sort_keys=True) + "\n"
    name = hashlib.sha256("\n".join((*sorted(kept), *(str(each.stop) for each in model.wanted.values()))).encode())
    with files.replacing(model.folder / f"{name.hexdigest()[:32]}.json", durable=False) as draft:
        draft.write_text(text, encoding="utf-8")


def _read(folder: Path) -> dict[str, str]:
    """Return the predictions in the files of a folder; unreadable ones can be made again, of several the longest."""
    found: dict[str, str] = {}
    for file in folder.glob("*.json") if folder.is_dir() else ():
        try:
            content: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        found |= {key: text for key, text in content.items() if len(text) > len(found.get(key, ""))}
    return found
