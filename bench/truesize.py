# SPDX-License-Identifier: MIT
"""The published backbones at their true size, with random weights, on the whole way of the ``clip`` world.

From files as TALL-masks published them through that world's reader, a merge by TSV-M and a zero-shot head of the text
tower to predicted classes. All that follows the writing is a process of its own.
"""

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import torch
from jaxtyping import Float
from torch import Tensor

import tsvlib
from bench import layouts, published, synthetic
from bench.measure import measured
from bench.steps import Settings, ours_threads
from bench.table import Row
from compendium.worlds.clip import models, registry
from compendium.worlds.clip.encoder import Encoder
from compendium.worlds.clip.sources import backbones, openclip
from compendium.worlds.clip.sources.openclip import TALL_MASKS
from tsvlib import checkpoints, devices
from tsvlib.checkpoints import open_checkpoint
from tsvlib.cli import exits

CLASSES = 8
"""Of the first task, in its prompts."""

IMAGES = {"cpu": 32, "cuda": 512}
"""How many are encoded at most, or a CPU would take minutes."""

Found = Iterator[tuple[str, float, str]]
"""Quantities, values and units."""


def models_at_true_size(settings: Settings) -> list[Row]:
    """Measure the way of each backbone on the chosen device; its files are removed at the end.

    InputError, before anything is written, when a backbone of open_clip is not as published, or there is too little
    space.
    """
    published.introduce_toy()
    device = devices.choose(settings.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    for backbone in settings.encoders:
        published.check_described(backbone)
        synthetic.check_space(settings.folder, _size(backbone, settings.experts))
    found = [
        Row("models", f"{backbone}, {card}", *each)
        for backbone in settings.encoders
        for each in _measured(settings, backbone)
    ]
    return [
        *found,
        Row("models", "setting", "experts", settings.experts, ""),
        *ours_threads("models", settings.workers),
    ]


def passed(folder: Path, backbone: str, experts: int, images: int, device: torch.device, workers: int) -> Found:
    """Go from the files of ``published.write`` to classes, and yield what there was and the seconds of each stage."""
    yield from _counted(folder, backbone)
    start = time.perf_counter()
    base, *others = [_read(folder, backbone, task) for task in (None, *published.tasks(experts))]
    yield "reading, checking and writing anew, each file", (time.perf_counter() - start) / (1 + experts), "s"
    start, merged = time.perf_counter(), folder / "merged.safetensors"
    tsvlib.merge(base, others, merged, device=device.type, workers=workers)
    yield "merging, from files to a file", time.perf_counter() - start, "s"
    start = time.perf_counter()
    task = registry.tasks()[published.tasks(1)[0]]
    classes = task.classes[:CLASSES]
    head = models.zero_shot_head(backbone, openclip.openai_file(folder, backbone), classes, task.templates)
    yield f"head of {len(classes)} classes in {len(task.templates)} prompts", time.perf_counter() - start, "s"
    yield "encoding in float32", _rate(merged, backbone, head, images, device), "images a second"


def _measured(settings: Settings, backbone: str) -> Found:
    """Yield what the process said and took; nothing of what was written for it is held in memory by then."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="models-", dir=settings.folder) as name:
        published.write(Path(name), backbone, settings.experts)
        about = ["--backbone", backbone, "--folder", name, "--experts", str(settings.experts)]
        about += ["--device", settings.device, "--workers", str(settings.workers), "--images", str(settings.images)]
        run = measured(["-m", "bench.truesize", *about], settings.workers)
    for line in run.said.splitlines():
        quantity, value, unit = json.loads(line)
        yield quantity, value, unit
    yield "time, from these files to classes", run.seconds, "s"
    yield "peak memory", run.peak / 1e9, "GB"


def _counted(folder: Path, backbone: str) -> Found:
    """Yield what a file of an expert holds; InputError when that is not what the published ones hold."""
    file = TALL_MASKS.files(folder, backbone, published.tasks(1)[0])
    shapes = {key: info.shape for key, info in open_checkpoint(file).layout.items()}
    layouts.check(backbone, shapes, str(file))
    yield "tensors of a checkpoint", len(shapes), ""
    yield "numbers of a checkpoint", layouts.parameters(shapes), ""
    yield "size of a checkpoint", file.stat().st_size, "bytes"


def _read(folder: Path, backbone: str, task: str | None) -> Path:
    """Read a checkpoint as the world does, and return the file of the image encoder in it."""
    file = folder / "read" / f"{task or 'base'}.safetensors"
    checkpoints.save(file, TALL_MASKS.read(folder, backbone, task), {"made by": "bench.truesize", "task": task})
    return file


def _rate(merged: Path, backbone: str, head: Float[Tensor, "classes embed"], count: int, device: torch.device) -> float:
    """Return how many images of noise a second get a class."""
    encoder = Encoder(backbone, None, device)
    features = encoder.features(checkpoints.load(merged))
    size, random = models.image_size(backbone), torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, size, size), dtype=torch.uint8, generator=random)
    # The first time a device is made ready, too.
    features(images[: min(count, encoder.batch) if device.type == "cuda" else 1])
    start = time.perf_counter()
    logits = torch.cat([features(part) @ head.T for part in torch.split(images, encoder.batch)])
    seconds = time.perf_counter() - start
    assert logits.isfinite().all()
    return count / seconds


def _size(backbone: str, experts: int) -> int:
    """Return how many bytes a backbone's files take: as published, as read, and merged."""
    return published.size(backbone, experts) + (2 + experts) * backbones.size(backbones.encoder(backbone, "open_clip"))


@click.command()
@click.option("--backbone", required=True)
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.option("--experts", type=int, required=True)
@click.option("--images", type=int, required=True)
@click.option("--device", required=True)
@click.option("--workers", type=int, required=True)
def _command(backbone: str, folder: Path, experts: int, images: int, device: str, workers: int) -> None:
    """Go from files to classes, and print quantity, value and unit of each measurement as JSON."""
    published.introduce_toy()
    place = devices.choose(device)
    for found in passed(folder, backbone, experts, min(images, IMAGES[place.type]), place, workers):
        click.echo(json.dumps(found))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status (see ``tsvlib.cli.exits``)."""
    return exits.run(_command, "python -m bench.truesize", arguments, "no file is half-written.")


if __name__ == "__main__":
    raise SystemExit(main())
