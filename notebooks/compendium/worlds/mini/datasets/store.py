# SPDX-License-Identifier: MIT
"""Drawn splits on disk: each is drawn once per profile and version of the drawing code."""

import hashlib
from contextlib import suppress
from functools import cache
from pathlib import Path

from compendium import paths, provenance
from compendium.profiles import Profile
from compendium.worlds.mini.datasets.tasks import load, made
from compendium.worlds.protocol import Split, SplitName
from tsvlib import checkpoints, files
from tsvlib.errors import InputError


@cache
def _code_digest() -> str:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256("".join(files.sha256(source) for source in sources).encode()).hexdigest()


def cached(profile: Profile, task: str, split: SplitName) -> Split:
    """Return a split of the profile's size, from the profile's cache if the same code drew it before."""
    found = _kept_or_drawn(profile, task, split)
    # The name has the number of images and no ending, since the digest is that of pixels and labels and not of a file.
    provenance.note(_folder(profile) / f"{task}__{split}__{len(found.labels)}", found.digest)
    return found


def _folder(profile: Profile) -> Path:
    return paths.cache(profile.name) / "datasets"


def _kept_or_drawn(profile: Profile, task: str, split: SplitName) -> Split:
    count = int(getattr(profile.samples, split))
    file = _folder(profile) / f"{task}__{split}.safetensors"
    recipe = {"task": task, "split": split, "count": count, "code": _code_digest()}
    # A broken entry of the cache is drawn again.
    with suppress(InputError):
        if file.exists() and recipe.items() <= (kept := checkpoints.recipe(file)).items():
            tensors = checkpoints.load(file)
            return made(tensors["images"], tensors["labels"], tuple(kept["sources"]))
    drawn = load(task, split, count)
    tensors = {"images": drawn.inputs[:], "labels": drawn.labels}
    checkpoints.save(file, tensors, {**recipe, "sources": list(drawn.sources)})
    return drawn
