# SPDX-License-Identifier: MIT
"""The measurements on files: a whole merge, memory, and bytes of compressed task vectors."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import counts, layouts, oracle, synthetic
from bench.measure import Measured, measured
from bench.table import Row

WARM = 2**24


@dataclass(frozen=True)
class Settings:
    """Where, how wide and on what is measured; backbone names are those of ``layouts``."""

    folder: Path
    workers: int = 2
    repeats: int = 1
    merged: tuple[str, int] = ("ViT-B-32", 8)
    large: tuple[str, int] = ("ViT-L-14", 20)
    backbone: str = "ViT-B-32"
    stored: tuple[str, ...] = ("ViT-B-32", "ViT-L-14")
    suites: tuple[int, ...] = (8, 14, 20)
    device: str = "cuda"
    sizes: tuple[int, ...] = (512, 768, 1024)
    encoders: tuple[str, ...] = ("ViT-B-32", "ViT-B-16", "ViT-L-14")
    images: int = 3072
    experts: int = 2
    methods: tuple[str, ...] = ()
    """Of ``methods.cases``; none are all."""


def merge(settings: Settings) -> list[Row]:
    """Compare time, memory and error of merging files, ours and literal, with the files in the page cache."""
    backbone, tasks = settings.merged
    base, experts = synthetic.write(settings.folder, backbone, tasks, workers=settings.workers)
    outputs = {name: base.with_name(f"merged-{name}.safetensors") for name in ("literal", "ours")}
    commands = {
        "literal": ["-m", "bench.literal", *named_files(base, experts), "--out", str(outputs["literal"])],
        "ours": merging(base, experts, outputs["ours"], settings.workers),
    }
    runs: dict[str, list[Measured]] = {name: [] for name in commands}
    for _ in range(settings.repeats):
        for name, command in commands.items():
            warm([base, *experts])
            runs[name].append(measured(command, settings.workers))
    keys = oracle.sample(layouts.layout(backbone))
    errors = oracle.errors(base, experts, outputs, keys)
    rows = _times(runs["literal"], runs["ours"])
    rows += [
        Row("merge", name, "peak memory", max(run.peak for run in found) / 1e9, "GB") for name, found in runs.items()
    ]
    rows += [Row("merge", name, "error of the update", value, "") for name, value in errors.items()]
    return [
        *rows,
        Row("merge", "oracle", "tensors compared", len(keys), ""),
        *threads("merge", settings.workers),
        Row("merge", "setting", "repeats", settings.repeats, ""),
    ]


def memory(settings: Settings) -> list[Row]:
    """Measure the peak memory of merging many large experts beyond that of an interpreter with torch."""
    backbone, tasks = settings.large
    base, experts = synthetic.write(settings.folder, backbone, tasks, workers=settings.workers)
    out = base.with_name("merged-ours.safetensors")
    idle = measured(["-c", "import torch"], settings.workers)
    run = measured(merging(base, experts, out, settings.workers), settings.workers)
    return [
        Row("memory", "experts", "size of files", sum(path.stat().st_size for path in experts) / 1e9, "GB"),
        Row("memory", "ours", "time", run.seconds, "s"),
        Row("memory", "ours", "peak memory", run.peak / 1e9, "GB"),
        Row("memory", "import torch", "peak memory", idle.peak / 1e9, "GB"),
        Row("memory", "ours", "peak beyond import torch", (run.peak - idle.peak) / 1e9, "GB"),
        *ours_threads("memory", settings.workers),
    ]


def storage(settings: Settings) -> list[Row]:
    """Compare the size of TSV-C files with the closed formula, in percent of a float32 visual task vector."""
    rows = []
    for backbone in settings.stored:
        base, (expert,) = synthetic.write(settings.folder, backbone, 1, workers=settings.workers)
        shapes = layouts.layout(backbone)
        whole = counts.FLOAT * layouts.parameters(layouts.visual(shapes))
        for tasks in settings.suites:
            out = base.with_name(f"expert-01-rank-{tasks}.safetensors")
            rank = ["--rank", f"1/{tasks}", "--out", str(out)]
            measured(["-m", "tsvlib", "compress", *named_files(base, [expert]), *rank], settings.workers)
            case, formula = f"{backbone}, T = {tasks}", counts.compressed_bytes(shapes, tasks)
            size = out.stat().st_size
            rows += [
                Row("storage", case, "measured", 100 * size / whole, "%"),
                Row("storage", case, "formula", 100 * formula / whole, "%"),
                Row("storage", case, "measured over formula", size / formula, ""),
            ]
    return rows


def merging(base: Path, experts: Sequence[Path], out: Path, workers: int, device: str = "cpu") -> list[str]:
    """Return the arguments of ``python`` that merge files by TSV-M with alpha 1."""
    method = ["--method", "tsv-m", "--alpha", "1.0", "--workers", str(workers), "--device", device]
    return ["-m", "tsvlib", "merge", *named_files(base, experts), *method, "--out", str(out)]


def warm(paths: Sequence[Path]) -> None:
    """Read files once, so that no run has to wait for the disk more than another."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(WARM):
                pass


def threads(step: str, workers: int) -> list[Row]:
    """Return how both sides use as many CPUs: the literal algorithm within a matrix, ours on several of them."""
    literal = [Row(step, "literal", "workers", 1, ""), Row(step, "literal", "threads per worker", workers, "")]
    return literal + ours_threads(step, workers)


def ours_threads(step: str, workers: int) -> list[Row]:
    """Return how our side uses as many CPUs."""
    return [Row(step, "ours", "workers", workers, ""), Row(step, "ours", "threads per worker", 1, "")]


def named_files(base: Path, experts: Sequence[Path]) -> list[str]:
    """Return the options that name a base and its experts."""
    return ["--base", str(base), *(word for path in experts for word in ("--expert", str(path)))]


def _times(literal: Sequence[Measured], ours: Sequence[Measured]) -> list[Row]:
    """Return median times, and how much faster ours is with and without matrices that no expert changed.

    Ours sees that there is nothing to decompose in them. To count them in would tell more of that than of the method.
    """
    whole, unchanged, own = (
        statistics.median(seconds)
        for seconds in (
            [run.seconds for run in literal],
            [float(run.said) for run in literal],
            [run.seconds for run in ours],
        )
    )
    return [
        Row("merge", "literal", "time", whole, "s"),
        Row("merge", "literal", "time of unchanged matrices", unchanged, "s"),
        Row("merge", "ours", "time", own, "s"),
        Row("merge", "ours", "speed-up", (whole - unchanged) / own, "times"),
        Row("merge", "ours", "speed-up with unchanged matrices", whole / own, "times"),
    ]
