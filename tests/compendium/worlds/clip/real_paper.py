# SPDX-License-Identifier: MIT
"""All that the clip world needs for the whole paper, in its real layouts and in small, beside a copy of the checkout.

In the copy nothing is replaced but sizes: `tasks.toml` keeps the first classes of each task, `profile.toml` gets fewer
numbers, `local.toml` names folders, and open_clip describes small models under the names of the published ones.
"""

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from compendium import paths
from compendium.worlds.clip import registry
from compendium.worlds.clip.registry import Task

from . import real_checkpoints, real_layouts, real_snapshots

CLASSES, POOL, TEST = 2, 60, 6
"""Classes of each task, and images of each class.

A tenth of the pool is for validation. An expert that is wrong about all images would be refused, since nothing can be
normalised by it; with two classes and twelve images for validation that hardly happens by chance.
"""

TEXT = {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1}
SHOWN = {"image_size": 40}
PATCHES = {"ViT-B-32": 8, "ViT-B-16": 5, "ViT-L-14": 8}
SMALL: Mapping[str, dict[str, Any]] = {
    name: config
    | {"embed_dim": 32, "text_cfg": TEXT, "vision_cfg": config["vision_cfg"] | SHOWN | {"patch_size": PATCHES[name]}}
    for name, config in real_checkpoints.TINY.items()
}
"""Small models that read the words which the real ones read.

The short side of each of their task matrices is above twenty, as with the real ones: singular vectors of twenty tasks
can be orthogonal in them.
"""

SOURCES = {
    "tall-masks": real_checkpoints.write_tall_masks,
    "tsv": real_checkpoints.write_tsv,
    "task-arithmetic": real_checkpoints.write_task_arithmetic,
    "fusion-bench": real_checkpoints.write_fusion_bench,
}
"""What writes the checkpoints of each source."""

STARTED = Path("tests") / "worlds" / "small_clips.py"


def prepare(copy: Path) -> None:
    """Let every process of a copy of the checkout know the small models and reach no network.

    With ``JUPYTER_PATH`` set to its folder `kernels`, notebooks run the Python that runs now; an environment that was
    itself copied may name another one.
    """
    shutil.copy(paths.ROOT / STARTED, copy / "sitecustomize.py")
    (copy / "small_clips").mkdir()
    for name, config in SMALL.items():
        (copy / "small_clips" / f"{name}.json").write_text(json.dumps(config))
    kernel = copy / "kernels" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": words, "display_name": "Python 3", "language": "python"}))


def shrink(copy: Path, tasks: int, suites: Sequence[int], backbones: Sequence[str]) -> None:
    """Write the profile of a copy with so many tasks, these suites and backbones, and small numbers."""
    file = copy / "data" / "clip" / "profile.toml"
    head, *rest = file.read_text().split("[[backbones]]")
    *described, last = rest
    last, finetuning = last.split("# For those who", 1)
    kept = [f"[[backbones]]{each}" for each in (*described, last) if any(f'"{name}"' in each for name in backbones)]
    changes: dict[str, object] = {"tasks": tasks, "suites": list(suites), "fractions": [0.1, 0.5]}
    text = _changed(head, {**changes, "lambdas": [0.2, 0.4], "train": 100, "alpha": 1000, "device": "cpu"})
    file.write_text(f"{text}{''.join(kept)}# For those who{_changed(finetuning, {'warmup_steps': 1})}")


def point(copy: Path, **changes: object) -> None:
    """Change values in the `local.toml` of a copy; `checkpoints` and `images` are the two folders."""
    file = copy / "data" / "clip" / "local.toml"
    parts = re.split(r"(?m)^(?=\[)", file.read_text())
    folders = {f"[{name}]": changes.pop(name) for name in ("checkpoints", "images") if name in changes}
    for number, part in enumerate(parts):
        name = part.split("\n", 1)[0]
        parts[number] = _changed(part, {"folder": str(folders[name])} if name in folders else {})
    file.write_text(_changed("".join(parts), changes))


def write_images(copy: Path, images: Path, names: Sequence[str] | None = None) -> dict[str, Task]:
    """Write data sets as they lie on a disk, and into the copy which classes and how many images these have."""
    with real_layouts.some_alike(TEST):
        written = {
            name: real_layouts.write(real_layouts.small(task, CLASSES), images, POOL, TEST)
            for name, task in registry.tasks().items()
            if names is None or name in names
        }
    _write_tasks(copy, written)
    return written


def write_copies(copy: Path, images: Path, names: Sequence[str]) -> dict[str, Task]:
    """Write copies of data sets as the hub has them, and into the copy of the checkout what these have."""
    written = {}
    for name in names:
        task = real_layouts.small(registry.tasks()[name], CLASSES)
        written[name] = real_snapshots.small(task, POOL * CLASSES, TEST * CLASSES)
        real_snapshots.write_copy(written[name], images)
    _write_tasks(copy, written)
    return written


def write_checkpoints(folder: Path, source: str, backbones: Sequence[str], tasks: Sequence[str]) -> None:
    """Write experts, base and OpenAI's weights in the layout of a source."""
    trained = nullcontext() if source == "fusion-bench" else real_checkpoints.projection_trained()
    with real_checkpoints.tiny_backbones(folder / "described", SMALL), trained:
        for backbone in backbones:
            SOURCES[source](folder, backbone, tasks)
            real_checkpoints.write_openai(folder, backbone)


def _write_tasks(copy: Path, written: Mapping[str, Task]) -> None:
    """Write the registry of a copy anew: fewer classes in all places, other numbers of images."""
    file = copy / "data" / "clip" / "tasks.toml"
    content = tomllib.loads(file.read_text(encoding="utf-8"))
    lines = [line for name, row in content.items() for line in _table(name, row, written.get(name))]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _table(name: str, row: dict[str, Any], task: Task | None) -> Iterator[str]:
    counts = {key: getattr(task, key) for key in ("pool", "test", "own_validation") if task and key in row}
    classes = row["classes"][:CLASSES]
    also = [pair for pair in row.get("also", []) if pair[1] in classes]
    plain = {key: value for key, value in row.items() if key != registry.OPTIONS}
    yield f"[{name}]"
    for key, value in {**plain, **counts, "classes": classes, "also": also}.items():
        yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
    for option, values in row.get(registry.OPTIONS, {}).items():
        for chosen, changes in values.items():
            yield f"[{name}.{registry.OPTIONS}.{option}.{chosen}]"
            for key, value in changes.items():
                kept = value[:CLASSES] if key == "classes" else value
                yield f"{key} = {json.dumps(kept, ensure_ascii=False)}"


def _changed(text: str, changes: Mapping[str, object]) -> str:
    """Return TOML with other values of keys that are in it."""
    for key, value in changes.items():
        text, found = re.subn(rf"(?m)^{key} = .*$", lambda _, k=key, v=value: f"{k} = {json.dumps(v)}", text)  # type: ignore[misc]
        assert found == 1, key
    return text
