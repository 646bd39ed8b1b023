# SPDX-License-Identifier: MIT
"""Experts of FusionBench: image encoders of transformers, each in a repository of its own on the hub.

Queries, keys and values are three matrices there. The projection to features was not trained; it is the base's.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from compendium.worlds.clip.sources import backbones, looking
from compendium.worlds.clip.sources.protocol import Layout, Offer, Opened
from compendium.worlds.findings import Finding
from tsvlib.checkpoints import open_checkpoint

BASES: Mapping[str, str] = {
    "ViT-B-32": "clip-vit-base-patch32",
    "ViT-B-16": "clip-vit-base-patch16",
    "ViT-L-14": "clip-vit-large-patch14",
}
"""What transformers calls the backbones; others go by their own name."""

TASKS: Mapping[str, str] = {
    "Cars": "stanford-cars",
    "DTD": "dtd",
    "EuroSAT": "eurosat",
    "GTSRB": "gtsrb",
    "MNIST": "mnist",
    "RESISC45": "resisc45",
    "SVHN": "svhn",
    "SUN397": "sun397",
    "STL10": "stl10",
    "OxfordIIITPet": "oxford-iiit-pet",
    "Flowers102": "oxford_flowers102",
    "CIFAR100": "cifar100",
    "PCAM": "pcam",
    "FER2013": "fer2013",
    "CIFAR10": "cifar10",
    "Food101": "food101",
    "FashionMNIST": "fashion_mnist",
    "RenderedSST2": "rendered-sst2",
    "EMNIST": "emnist_letters",
    "KMNIST": "kmnist",
}
"""The ends of their repositories' names. EMNIST is another task than the paper's: letters, and not digits."""

NAMES = ("model.safetensors", "pytorch_model.bin")
PROJECTION = "visual_projection.weight"
BUFFERS = r"(vision_model\.)?embeddings\.position_ids"
EXPERT = re.compile(BUFFERS)
BASE = re.compile(rf"{BUFFERS}|text_model\..+|text_projection\.weight|logit_scale")


class FusionBench:
    """These experts, and the CLIP of OpenAI that they began with, from which it takes image encoder and projection."""

    name = "fusion-bench"
    layout: Layout = "transformers"

    def files(self, folder: Path, backbone: str, task: str | None) -> Path:
        """Return the file of a checkpoint, in a folder named as the repository is, with or without its owner."""
        repository = _repository(backbone, task)
        places = [folder / repository / name for name in NAMES]
        places += [folder / repository.rpartition("/")[2] / name for name in NAMES]
        return next((place for place in places if place.is_file()), places[0])

    def offer(self, folder: Path, backbone: str, task: str | None) -> Offer:
        """Return the repository of a checkpoint, which has either kind of file."""
        repository = _repository(backbone, task)
        return Offer(repository, {name: folder / repository / name for name in NAMES})

    def by_hand(self, folder: Path, backbone: str, task: str | None) -> str:
        """Return where on the hub the file is, and where to put it."""
        repository = _repository(backbone, task)
        return f"put {' or '.join(NAMES)} of the repository {repository} into {folder / repository}"

    def look(self, folder: Path, backbone: str, task: str | None) -> Finding:
        """Return whether a checkpoint is there, whole, and of that backbone, by its names and shapes."""
        shapes = backbones.whole(backbone) if task is None else backbones.encoder(backbone, self.layout)
        return looking.look(self, folder, backbone, task, backbones.size(shapes), partial(_names, task))

    def read(self, folder: Path, backbone: str, task: str | None) -> dict[str, Tensor]:
        """Return the tensors of an image encoder (``vision_model.*``) in float32."""
        file = self.files(folder, backbone, task)
        opened, names = _names(task, file, backbone)
        return backbones.read(file, opened, {ours: theirs for ours, theirs in names.items() if ours != PROJECTION})

    def projection(self, folder: Path, backbone: str) -> Float[Tensor, "embed width"]:
        """Return the projection of the base in float32; InputError as in ``read``."""
        file = self.files(folder, backbone, None)
        opened, _ = _names(None, file, backbone)
        return backbones.read(file, opened, {PROJECTION: PROJECTION})[PROJECTION]

    def head(self, folder: Path, backbone: str, task: str) -> Float[Tensor, "classes embed"] | None:  # noqa: ARG002
        """Return None: FusionBench makes classifiers of its class names as it goes."""
        return None


def _repository(backbone: str, task: str | None) -> str:
    base = BASES.get(backbone, backbone)
    return f"openai/{base}" if task is None else f"tanganke/{base}_{TASKS[task]}"


def _names(task: str | None, file: Path, backbone: str) -> tuple[Opened, dict[str, str]]:
    """Return an open file, and its names for the tensors of the encoder and, in the base, of the projection."""
    opened = open_checkpoint(file)
    wanted = backbones.encoder(backbone, "transformers")
    if task is None:
        embed, width = reversed(backbones.encoder(backbone, "open_clip")["visual.proj"])
        return opened, backbones.matched(file, opened.layout, wanted | {PROJECTION: (embed, width)}, "", BASE)
    # Version 5 of transformers leaves the first word out when it saves an image encoder alone.
    begin = "vision_model." if any(key.startswith("vision_model.") for key in opened.layout) else ""
    theirs = {begin + key.removeprefix("vision_model."): key for key in wanted}
    shapes = {name: wanted[key] for name, key in theirs.items()}
    found = backbones.matched(file, opened.layout, shapes, "", EXPERT)
    return opened, {theirs[name]: place for name, place in found.items()}
