# SPDX-License-Identifier: MIT
"""The clip world behind the protocol: the paper's backbones and data sets, and experts that others published."""

import hashlib
from collections.abc import Callable
from functools import cache, cached_property, partial
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from compendium import paths, provenance
from compendium.profiles import Profile
from compendium.worlds import inventory
from compendium.worlds.clip import images, layouts, models, registry, settings, splits
from compendium.worlds.clip.images import Request
from compendium.worlds.clip.sources import openclip, origins
from compendium.worlds.clip.sources.protocol import Source
from compendium.worlds.clip.sources.registered import SOURCES
from compendium.worlds.inventory import Expert
from compendium.worlds.protocol import Features, Split, SplitName
from compendium.worlds.trained import TrainedHere
from tsvlib import checkpoints
from tsvlib.errors import InputError
from tsvlib.taskvectors import StateDict

ABOUT = """The data sets are those of the paper, as they are published; `data/clip/README.md` says which images train,
validate and test, and where versions of a data set differ. Every image is a source of its own."""

SHOWN = 14
"""Images of a task that are enough to see what it asks."""


def build(profile: Profile) -> "Clip":
    """Return the clip world at the size of a profile; InputError when it asks for more tasks than there are."""
    if profile.tasks > len(registry.tasks()):
        raise InputError(f"profile {profile.name}: there are {len(registry.tasks())} tasks; lower 'tasks'.")
    provenance.name_packages("open_clip_torch", "torchvision", "pillow")
    return Clip(profile)


class Encoder:
    """The image encoder of a published CLIP, in the layout of whoever published its experts."""

    batch = 64

    def __init__(self, backbone: str, projection: Tensor | None) -> None:
        self.backbone, self.projection = backbone, projection
        kept = {} if projection is None else {"projection": projection}
        self.digest = f"{backbone} quickgelu {checkpoints.state_digest(kept)}"

    def features(self, state: StateDict) -> Features:
        """Return what encodes images with these weights."""
        return torch.inference_mode()(partial(models.encode, models.image_encoder(self.backbone, self._whole(state))))

    def differentiable(self) -> Callable[[StateDict, Tensor], Float[Tensor, "n embed"]]:
        """Return what encodes images with given weights and keeps a graph for these."""
        return lambda state, pixels: models.encode(models.image_encoder(self.backbone, self._whole(state)), pixels)

    def _whole(self, state: StateDict) -> StateDict:
        return state if self.projection is None else layouts.fused(state, self.projection)


class Clip(TrainedHere):
    """OpenAI's image encoders, twenty data sets, and experts from files that ``data/clip/local.toml`` names."""

    inputs = "images"
    about = ABOUT

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self.settings = settings.load(profile.name)
        options = self.settings.options
        self.tasks = tuple(registry.with_options(task, options) for task in registry.tasks().values())[: profile.tasks]
        self._by_name = {task.name: task for task in self.tasks}
        self._split = cache(self._decoded)

    @property
    def source(self) -> Source:
        """Return who published the experts."""
        return SOURCES[self.settings.checkpoints.source]

    def split(self, task: str, name: SplitName) -> Split:
        """Return one split of a task: images of 224 x 224 pixels, decoded into the cache where they are not yet."""
        return self._split(task, name)

    def examples(self, task: str) -> UInt8[Tensor, "n 3 rows cols"]:
        """Return the first training images of a task."""
        request, chosen = self._request(task, "train")
        pictures = request.open()
        return torch.stack([images.preprocess(pictures.image(n), request.size) for n in chosen[:SHOWN].tolist()])

    def start(self, backbone: str) -> dict[str, Tensor]:
        """Return the image encoder that all experts began with."""
        return self.source.read(self.settings.checkpoints_folder, backbone, None)

    def head(self, backbone: str, task: str) -> Float[Tensor, "classes embed"]:
        """Return the zero-shot head that the text tower makes of the names of classes, kept in the cache."""
        about, weights = self._by_name[task], self.text_weights(backbone)
        file = paths.cache(self.profile.name) / "heads" / backbone / f"{task}.safetensors"
        recipe = {"weights": origins.digest(weights), "classes": about.classes, "templates": about.templates}
        recipe = {name: list(value) if isinstance(value, tuple) else value for name, value in recipe.items()}
        if not inventory.is_current(file, recipe):
            head = models.zero_shot_head(backbone, weights, about.classes, about.templates)
            checkpoints.save(file, {"head": head}, recipe)
        return checkpoints.load(file)["head"]

    def text_weights(self, backbone: str) -> Path:
        """Return the file of OpenAI's whole CLIP, whose text tower makes heads."""
        return openclip.openai_file(self.settings.checkpoints_folder, backbone)

    def encoder(self, backbone: str) -> Encoder:
        """Return the encoder of a backbone."""
        theirs = self.source.layout == "transformers"
        return Encoder(
            backbone, self.source.projection(self.settings.checkpoints_folder, backbone) if theirs else None
        )

    def place(self, key: str) -> tuple[int, str]:
        """Return the number of a tensor's residual block, -1 outside of these, and its name in there."""
        for pattern in (layouts.BLOCK, layouts.LAYER):
            if found := pattern.fullmatch(key):
                return int(found[1]), found[2]
        return -1, key.removeprefix("visual.").removeprefix("vision_model.")

    def recipe(self, expert: Expert) -> dict[str, object]:
        """Return what decides the bytes of an expert here: the published file."""
        folder, stated = self.settings.checkpoints_folder, self.settings.checkpoints
        return {"origin": vars(origins.origin(self.source, folder, expert.backbone, expert.task, stated.generation))}

    def train(self, expert: Expert) -> dict[str, Tensor]:
        """Return the image encoder of a published expert, with just the tensors of the base."""
        return self.source.read(self.settings.checkpoints_folder, expert.backbone, expert.task)

    def _request(self, task: str, name: SplitName) -> tuple[Request, Tensor]:
        about, place = self._by_name[task], self.settings.images
        part, chosen = splits.chosen(about, name, self.settings.options)
        most = getattr(self.profile.samples, name)
        return (
            Request(about, place.reader, self.settings.images_folder, part, self.settings.options, self._size),
            chosen[splits.spread(len(chosen), most)],
        )

    def _decoded(self, task: str, name: SplitName) -> Split:
        request, chosen = self._request(task, name)
        pictures = request.open()
        found = images.decoded(request, chosen, paths.cache(self.profile.name) / "images" / task / name)
        labels = pictures.labels[chosen]
        digest = hashlib.sha256(found.digest.encode() + labels.numpy().tobytes()).hexdigest()
        return Split(found, labels, digest, [f"{task} {pictures.names[n]}" for n in chosen.tolist()])

    @cached_property
    def _size(self) -> int:
        sizes = {models.image_size(backbone.name) for backbone in self.profile.backbones}
        if len(sizes) > 1:
            raise InputError(f"profile {self.profile.name}: its backbones read images of different sizes; choose one.")
        return sizes.pop()
