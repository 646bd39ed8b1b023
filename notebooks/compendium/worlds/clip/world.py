# SPDX-License-Identifier: MIT
"""The clip world behind the protocol: the paper's backbones and data sets, and experts that others published."""

import hashlib
from collections.abc import Iterator
from functools import cache, cached_property, partial
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from compendium import provenance
from compendium.profiles import Profile
from compendium.worlds import inventory
from compendium.worlds.clip import (
    copies,
    images,
    layouts,
    models,
    places,
    precision,
    registry,
    settings,
    sizes,
    splits,
    versions,
)
from compendium.worlds.clip.encoder import Encoder
from compendium.worlds.clip.images import Request
from compendium.worlds.clip.needs import Needs
from compendium.worlds.clip.own import Own
from compendium.worlds.clip.sources import digests, openclip, origins
from compendium.worlds.clip.sources.protocol import Source
from compendium.worlds.clip.sources.registered import SOURCES
from compendium.worlds.fetching import Wanted, What
from compendium.worlds.inventory import Expert
from compendium.worlds.protocol import Need, Split, SplitName
from compendium.worlds.trained import TrainedHere
from tsvlib import checkpoints, devices
from tsvlib.errors import InputError

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


class Clip(TrainedHere):
    """OpenAI's image encoders, twenty data sets, and experts from files that ``data/clip/local.toml`` names."""

    inputs = "images"
    about = ABOUT

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self.settings = settings.load(profile.name)
        options, place = self.settings.options, self.settings.images
        meant = [registry.with_options(task, options) for task in registry.tasks().values()][: profile.tasks]
        self.tasks = tuple(copies.as_published(task) if place.reader == "hub" else task for task in meant)
        self._by_name = {task.name: task for task in self.tasks}
        self.stated = versions.stated(self.settings, self._by_name)
        self._split, self._encoder, self._count = cache(self._decoded), cache(self._placed), cache(self._counted)
        self.published = not self.is_own
        self._own = Own(profile, partial(self._request, name="train"), self.text_weights) if self.is_own else None

    @property
    def is_own(self) -> bool:
        """Tell whether experts are trained here."""
        return self.settings.checkpoints.source == settings.OWN

    @property
    def source(self) -> Source:
        """Return who published the experts, or of one's own ones, what has their base."""
        return openclip.BASE if self.is_own else SOURCES[self.settings.checkpoints.source]

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
        file = places.head(self.profile.name, backbone, task)
        recipe = {"weights": digests.sha256(weights), "classes": about.classes, "templates": about.templates}
        recipe = {name: list(value) if isinstance(value, tuple) else value for name, value in recipe.items()}
        if not inventory.is_current(file, recipe):
            head = models.zero_shot_head(backbone, weights, about.classes, about.templates)
            checkpoints.save(file, {"head": head}, recipe)
        return checkpoints.load(file)["head"]

    def text_weights(self, backbone: str) -> Path:
        """Return the file of OpenAI's whole CLIP, whose text tower makes heads."""
        return openclip.openai_file(self.settings.checkpoints_folder, backbone)

    def encoder(self, backbone: str) -> Encoder:
        """Return the encoder of a backbone, on the device of the profile."""
        return self._encoder(backbone)

    def place(self, key: str) -> tuple[int, str]:
        """Return the number of a tensor's residual block, -1 outside of these, and its name in there."""
        for pattern in (layouts.BLOCK, layouts.LAYER):
            if found := pattern.fullmatch(key):
                return int(found[1]), found[2]
        return -1, key.removeprefix("visual.").removeprefix("vision_model.")

    def recipe(self, expert: Expert) -> dict[str, object]:
        """Return what decides the bytes of an expert here: the published file, or how it is trained."""
        if self._own:
            return self._own.recipe(expert)
        folder, stated = self.settings.checkpoints_folder, self.settings.checkpoints
        return {"origin": vars(origins.origin(self.source, folder, expert.backbone, expert.task, stated.generation))}

    def train(self, expert: Expert) -> dict[str, Tensor]:
        """Return the image encoder of an expert, with just the tensors of the base, as published or after training."""
        if self._own:
            return self._own.train(expert, self.start(expert.backbone), self.head(expert.backbone, expert.task))
        return self.source.read(self.settings.checkpoints_folder, expert.backbone, expert.task)

    def _placed(self, backbone: str) -> Encoder:
        """Return an encoder on its device, in the type that a first look at its base there allows."""
        theirs, device = self.source.layout == "transformers", devices.choose(self.profile.device)
        projection = self.source.projection(self.settings.checkpoints_folder, backbone) if theirs else None
        encoder = Encoder(backbone, projection, device)
        if device.type == "cpu":
            return encoder
        features, task = encoder.features(checkpoints.load(self.base(backbone))), self.tasks[0].name
        inputs, head = self.split(task, "validation").inputs, self.head(backbone, task)
        return Encoder(backbone, projection, device, precision.chosen(features, inputs, head, device, encoder.batch))

    def needs(self) -> Iterator[Need]:
        """Yield packages, models and data sets, then what is made and kept."""
        needs = self._needs()
        yield from (*needs.packages(), *needs.options(), *(each.need for each in self.wanted("all")))
        yield from (*self.kept_experts(), *needs.made())

    def wanted(self, what: What) -> Iterator[Wanted]:
        """Yield models and data sets with what fetches them."""
        needs = self._needs()
        yield from needs.checkpoints() if what != "images" else ()
        yield from needs.data_sets() if what != "checkpoints" else ()

    def count(self, task: str, name: SplitName) -> int:
        """Return how many images a split has; none of them need be there."""
        return self._count(task, name)

    def operations(self, backbone: str) -> int:
        """Return how many additions and multiplications an image takes on its way through an encoder."""
        return sizes.operations(backbone)

    def expert_size(self, backbone: str) -> int:
        """Return how many bytes an expert takes."""
        return sizes.encoder(backbone, self.source.layout)

    def _needs(self) -> Needs:
        return Needs(self.profile, self.settings, self.tasks, self.source, self.is_own, self._count, self._size)

    def _counted(self, task: str, name: SplitName) -> int:
        chosen = splits.chosen(self._by_name[task], name, self.settings.options)[1]
        return min(len(chosen), int(getattr(self.profile.samples, name)))

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
        found = images.decoded(request, chosen, places.decoded(self.profile.name, task, name))
        labels = pictures.labels[chosen]
        digest = hashlib.sha256(found.digest.encode() + labels.numpy().tobytes()).hexdigest()
        return Split(found, labels, digest, [f"{task} {pictures.names[n]}" for n in chosen.tolist()])

    @cached_property
    def _size(self) -> int:
        sizes = {models.image_size(backbone.name) for backbone in self.profile.backbones}
        if len(sizes) > 1:
            raise InputError(f"profile {self.profile.name}: its backbones read images of different sizes; choose one.")
        return sizes.pop()
