# SPDX-License-Identifier: MIT
"""What a GPU does: eigendecompositions by size, type and number, and merges of files beside those of the CPUs there."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from bench import layouts, oracle, synthetic
from bench.measure import measured
from bench.steps import Settings, merging, warm
from bench.table import Row
from tsvlib import devices

TOGETHER = (1, 8, 64)
TYPES = {"float32": torch.float32, "float64": torch.float64}
Found = Iterator[tuple[str, float, str]]
"""Quantities, values and units."""


def gpu(settings: Settings) -> list[Row]:
    """Measure on the chosen device, which every row names with PyTorch; InputError when this machine lacks it."""
    device = devices.choose(settings.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    found = [*_eigendecompositions(settings, device), *_merged(settings, device), *_large(settings, device)]
    return [Row("gpu", f"{card}, PyTorch {torch.__version__}", *each) for each in found]


def eigendecompositions(n: int, count: int, dtype: torch.dtype, device: torch.device) -> float:
    """Return the seconds that symmetric eigendecompositions of so many n x n matrices take together."""
    factor = torch.randn(n, 2 * n, generator=torch.Generator().manual_seed(n), dtype=dtype).to(device)
    matrices = (factor @ factor.mT / n).expand(count, n, n).contiguous()
    torch.linalg.eigh(matrices[:1])
    _wait(device)
    start = time.perf_counter()
    torch.linalg.eigh(matrices)
    _wait(device)
    return time.perf_counter() - start


def _eigendecompositions(settings: Settings, device: torch.device) -> Found:
    for n in settings.sizes:
        for name, dtype in TYPES.items():
            for count in TOGETHER:
                seconds = eigendecompositions(n, count, dtype, device)
                yield f"eigh of {n} x {n} in {name}, {count} at once", 1e3 * seconds / count, "ms each"


def _merged(settings: Settings, device: torch.device) -> Found:
    """Merge files on the CPU and on the device, and compare both with the oracle."""
    backbone, tasks = settings.merged
    base, experts = synthetic.write(settings.folder, backbone, tasks, workers=settings.workers)
    outputs = {place: base.with_name(f"merged-on-{place}.safetensors") for place in ("cpu", device.type)}
    for place, out in outputs.items():
        workers = devices.default_workers(torch.device(place))
        yield f"merge of {tasks} {backbone} on {place}, workers: {workers}", _seconds(base, experts, out, place), "s"
    errors = oracle.errors(base, experts, outputs, oracle.sample(layouts.layout(backbone)))
    for place in outputs:
        yield f"error of the update on {place}", errors[place], ""


def _large(settings: Settings, device: torch.device) -> Found:
    backbone, tasks = settings.large
    base, experts = synthetic.write(settings.folder, backbone, tasks, workers=settings.workers)
    out = base.with_name("merged-ours.safetensors")
    yield f"merge of {tasks} {backbone} on {device.type}", _seconds(base, experts, out, device.type), "s"


def _seconds(base: Path, experts: Sequence[Path], out: Path, place: str) -> float:
    """Return the wall time of one merge of files in the page cache, with the workers that a place has by default."""
    workers = devices.default_workers(torch.device(place))
    warm([base, *experts])
    return measured(merging(base, experts, out, workers, place), workers).seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
