# SPDX-License-Identifier: MIT
"""How fast published CLIPs encode images, several models in one pass or one, and how fast they are fine-tuned.

Weights are random, and so are images: neither decides how long anything takes.
"""

import io
import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from bench import published
from bench.steps import Settings
from bench.table import Row
from compendium import profiles
from compendium.study import predictions
from compendium.study.predictions import Model, Split, Wanted
from compendium.worlds.clip import images, models, training
from compendium.worlds.clip.encoder import Encoder
from compendium.worlds.clip.images import Decoded
from compendium.worlds.clip.pictures import Pictures
from compendium.worlds.clip.training import Data, Plan, Unfinished
from tsvlib import devices, files
from tsvlib.taskvectors import StateDict

TYPES = {"cpu": (torch.float32,), "cuda": (torch.float32, torch.float16)}
"""In which a device encodes."""

TOGETHER = (1, 4)
"""Models that share a pass over the images."""

CLASSES = 100
PHOTOGRAPH = (500, 375)
"""Width and height of the images that training decodes, which are JPEG files in memory."""

Found = Iterator[tuple[str, float, str]]
"""Quantities, values and units."""


def encoding(settings: Settings) -> list[Row]:
    """Measure on the chosen device, which every row names with PyTorch; InputError when this machine lacks it."""
    published.introduce_toy()
    device = devices.choose(settings.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    inputs = _decoded(settings.folder / "encoding", settings.images)
    found: list[tuple[str, float, str]] = []
    for backbone in settings.encoders:
        weights = _weights(backbone)
        found += _encoded(settings, backbone, weights, inputs, device)
        found += _trained(settings, backbone, weights, device)
    return [Row("encoding", f"{card}, PyTorch {torch.__version__}", *each) for each in found]


def _encoded(settings: Settings, backbone: str, weights: StateDict, inputs: Decoded, device: torch.device) -> Found:
    """Predict images from files on the disk with a head, as the notebooks do it."""
    head = _head(backbone)
    for dtype in TYPES[device.type]:
        encoder = Encoder(backbone, None, device, dtype)
        name = str(dtype).removeprefix("torch.")
        for count in TOGETHER:
            states = [weights] * count
            _predicted(settings.folder, encoder, states, inputs, head, min(len(inputs), encoder.batch))
            seconds = _predicted(settings.folder, encoder, states, inputs, head, len(inputs))
            rate = count * len(inputs) / seconds
            yield f"{backbone} in {name}, {count} in one pass", rate, "images a second"
    plain, *others = (
        Encoder(backbone, None, device, dtype).features(weights)(inputs[:64]) for dtype in TYPES[device.type]
    )
    for half in others:
        apart = torch.linalg.vector_norm(half - plain, dim=-1)
        yield f"{backbone}, largest deviation of features in float16", float(apart.max()), "of their length"
    yield f"{backbone}, peak memory of the process by then", _peak() / 1e9, "GB"
    yield from _gpu_memory(f"{backbone}, {TOGETHER[-1]} in one pass", device)


def _predicted(
    folder: Path, encoder: Encoder, states: list[StateDict], inputs: Decoded, head: Tensor, stop: int
) -> float:
    """Return the seconds that the predictions of some models for the first images take, from a disk to a disk."""
    wanted: Mapping[str, Wanted] = {"task": Wanted("key", b"", stop)}
    start = time.perf_counter()
    found = [
        Model(encoder.features(state), wanted, folder / "encoding" / f"model-{number}")
        for number, state in enumerate(states)
    ]
    readers = devices.default_workers(encoder.device) if encoder.device.type == "cpu" else predictions.READERS
    predictions.predict(found, lambda task: Split(inputs, head), encoder.batch, encoder.device, readers)
    return time.perf_counter() - start


def _trained(settings: Settings, backbone: str, weights: StateDict, device: torch.device) -> Found:
    """Fine-tune for one epoch, with decoding and all that belongs to it, but for the start."""
    shown = max(settings.images // 2, 2)
    finetuning = profiles.load("clip").finetuning
    workers = devices.default_workers(devices.choose("cpu"))
    few, seconds = min(shown, finetuning.batch_size) // 2, []
    # The first time a device is made ready, too.
    for count in (few, few, shown):
        data = Data(_pictures(count), torch.arange(count), _head(backbone))
        plan = Plan(backbone, 1, finetuning, seed=0)
        unfinished = Unfinished(settings.folder / "encoding" / "unfinished.safetensors", {})
        start = time.perf_counter()
        training.finetune(weights, data, plan, unfinished, device, workers)
        seconds.append(time.perf_counter() - start)
    yield f"{backbone}, fine-tuning, {workers} decoding", (shown - few) / (seconds[2] - seconds[1]), "images a second"
    yield from _gpu_memory(f"{backbone}, fine-tuning", device)


def _weights(backbone: str) -> dict[str, Float[Tensor, "..."]]:
    """Return weights of an image encoder (``visual.*``): matrices keep the size of what they multiply, about."""
    random = torch.Generator().manual_seed(0)
    return {
        f"visual.{key}": torch.randn(tensor.shape, generator=random) / tensor[0].numel() ** 0.5
        if tensor.ndim > 1
        else torch.full(tensor.shape, float("ln" in key and key.endswith("weight")))
        for key, tensor in models.empty_encoder(backbone).state_dict().items()
    }


def _head(backbone: str) -> Float[Tensor, "classes embed"]:
    width = int(models.empty_encoder(backbone).proj.shape[1])
    return torch.randn(CLASSES, width, generator=torch.Generator().manual_seed(0))


def _gpu_memory(what: str, device: torch.device) -> Found:
    """Yield the most memory that tensors had on a GPU, and begin anew."""
    if device.type == "cuda":
        yield f"{what}, peak memory of the GPU", torch.cuda.max_memory_allocated(device) / 1e9, "GB"
        torch.cuda.reset_peak_memory_stats(device)


def _decoded(folder: Path, count: int) -> Decoded:
    """Return so many images of noise, in files as the decoder of data sets writes them."""
    random = np.random.default_rng(0)
    names = []
    for start in range(0, count, images.PART):
        names.append(folder / f"{start // images.PART:04}.images")
        pixels = random.integers(0, 256, (min(images.PART, count - start), 3, images.SIZE, images.SIZE), np.uint8)
        with files.replacing(names[-1], durable=False) as draft:
            draft.write_bytes(pixels.tobytes())
    return Decoded(tuple(names), count, images.SIZE, "noise")


def _pictures(count: int) -> Pictures:
    """Return JPEG files in memory, with as much in them as photographs have."""
    random = np.random.default_rng(0)
    contents = []
    for _ in range(min(count, 64)):
        coarse = Image.fromarray(random.integers(0, 256, (47, 63, 3), np.uint8)).resize(PHOTOGRAPH)
        coarse.save(stream := io.BytesIO(), "JPEG", quality=90)
        contents.append(stream.getvalue())
    labels = torch.randint(CLASSES, (count,), generator=torch.Generator().manual_seed(0))
    names = [str(number) for number in range(count)]
    return Pictures(labels, names, lambda number: Image.open(io.BytesIO(contents[number % len(contents)])))


def _peak() -> int:
    """Return the most memory in bytes that this process had so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
