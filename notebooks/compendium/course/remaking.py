# SPDX-License-Identifier: MIT
"""The process apart in which a method runs that is only a text: ``python -m compendium.course.remaking``."""

import json
import resource
import time
from pathlib import Path

import torch

from compendium.course import memory, recipes
from tsvlib import checkpoints
from tsvlib.errors import InputError

BYTES = 2**32
"""How much memory it may take, where the system heeds that (Linux does)."""


def remake(place: Path) -> None:
    """Read the order in a folder, and leave the update there, or one sentence on why there is none."""
    order = json.loads((place / recipes.ORDER).read_text(encoding="utf-8"))
    base = checkpoints.load(Path(order["base"]))
    opened = [checkpoints.open_checkpoint(Path(file)) for file in order["experts"]]
    experts = [{key: expert.read(key) for key in base} for expert in opened]
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    end = int(time.process_time()) + order["seconds"]
    # What it returns is as large as the base.
    most = memory.LARGEST_FILE + 2 * sum(tensor.nbytes for tensor in base.values())
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    # The first limit ends a process in a way that can be told from others.
    resource.setrlimit(resource.RLIMIT_CPU, (end, end + 5))
    torch.manual_seed(0)
    try:
        update = recipes.update(recipes.method_of(order["source"]), base, experts)
        checkpoints.save(place / recipes.UPDATE, update, {}, durable=False)
    except InputError as error:
        (place / recipes.REASON).write_text(str(error), encoding="utf-8")


if __name__ == "__main__":
    remake(Path.cwd())
