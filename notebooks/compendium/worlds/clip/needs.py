# SPDX-License-Identifier: MIT
"""What a run with published models and data sets rests on, what is there of it, and what fetches the rest."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

from compendium import machine, paths, profiles
from compendium.profiles import Profile
from compendium.worlds.clip import hub, local, places, sizes
from compendium.worlds.clip.local import downloads
from compendium.worlds.clip.registry import Task
from compendium.worlds.clip.settings import Settings
from compendium.worlds.clip.sources import backbones, fetching, openclip
from compendium.worlds.clip.sources.protocol import Source
from compendium.worlds.fetching import Wanted
from compendium.worlds.findings import Finding, size
from compendium.worlds.protocol import Need, SplitName
from tsvlib.checkpoints import open_checkpoint
from tsvlib.errors import InputError
from tsvlib.store import Spectra

READ_BY: Mapping[str, tuple[str, ...]] = {"hub": ("datasets", "pyarrow"), "local": ("h5py",)}
"""Packages that a reader takes and that are not among those of every profile."""

HDF5 = "PCAM"
"""The data set whose original files take h5py."""

MEASURED: tuple[SplitName, ...] = ("validation", "test")
"""Splits of which every image is encoded, and which are kept decoded."""

FORMS = 2
"""Of test-time adaptation, which work at the same time, each with a file of all task vectors."""


@dataclass(frozen=True)
class Needs:
    """All needs of a profile: with these settings, these tasks, and experts of a source, or ``own`` ones from its base.

    ``count`` tells how many images a split has, ``image_size`` their rows and columns.
    """

    profile: Profile
    settings: Settings
    tasks: Sequence[Task]
    source: Source
    own: bool
    count: Callable[[str, SplitName], int]
    image_size: int

    def packages(self) -> Iterator[Need]:
        """Yield packages that are missing; where all are there, nothing."""
        for name in READ_BY[self.settings.images.reader]:
            if not find_spec(name) and (self._on_hub or any(task.name == HDF5 for task in self.tasks)):
                told = f"reading {'copies of the hub' if self._on_hub else HDF5} takes it; `pip install {name}`"
                yield Need("package", name, Finding("missing", f"{told}, or choose the other reader of images."))

    def options(self) -> Iterator[Need]:
        """Yield the option that does not fit the experts, if there is one."""
        known = any(task.name == "EMNIST" for task in self.tasks)
        if known and self.source.name == "fusion-bench" and self.settings.options.emnist == "digits":
            file = profiles.folder(self.profile.name) / "local.toml"
            told = f'{file}: the EMNIST expert of {self.source.name} learnt letters; set emnist to "letters".'
            yield Need("option", "emnist", Finding("doubtful", told))

    def checkpoints(self) -> Iterator[Wanted]:
        """Yield OpenAI's models, then the base of the experts where that is another file, and the experts."""
        folder = self.settings.checkpoints_folder
        for backbone in (each.name for each in self.profile.backbones):
            found = self._text_tower(backbone)
            need = Need("text tower", backbone, found, can_fetch=True)
            yield Wanted(need, partial(fetching.fetch_openai, folder, backbone))
            tasks = [None, *([] if self.own else (task.name for task in self.tasks))]
            if self.source.files(folder, backbone, None) == openclip.openai_file(folder, backbone):
                del tasks[0]
            for task in tasks:
                on_hub = self.source.offer(folder, backbone, task) is not None
                need = Need("checkpoint", task or "base", self._checkpoint(backbone, task), backbone, on_hub)
                yield Wanted(need, partial(fetching.fetch, self.source, folder, backbone, task) if on_hub else None)

    def data_sets(self) -> Iterator[Wanted]:
        """Yield the data sets, but none for which a package is missing that is needed to look at it."""
        folder, lacks = self.settings.images_folder, any(self.packages())
        for task in self.tasks:
            if lacks and (self._on_hub or task.name == HDF5):
                continue
            found = hub.look(task, folder) if self._on_hub else local.look(task, folder)
            if found.state == "present":
                found = replace(found, told=f"below {folder}")
            can_fetch = task.hub is not None if self._on_hub else bool(downloads.WAYS[task.name].asked)
            fetch = partial(hub.download if self._on_hub else local.download, task, folder)
            yield Wanted(Need("data set", task.name, found, can_fetch=can_fetch), fetch if can_fetch else None)

    def made(self) -> Iterator[Need]:
        """Yield what is made beside experts: bases, heads, decoded images, decompositions, a large working file."""
        for backbone in self.profile.backbones:
            yield Need("written base", backbone.name, self._base(backbone.name))
            for task in self.tasks:
                file = places.head(self.profile.name, backbone.name, task.name)
                state = Finding("present" if file.is_file() else "made later", "by the text tower")
                yield Need("head", task.name, state, backbone.name)
        for task in self.tasks:
            for name in MEASURED:
                yield Need("decoded split", f"{task.name} {name}", self._decoded(task.name, name))
        yield Need("store of decompositions", "", self._decompositions())
        first, layout = self.profile.backbones[0].name, self.source.layout
        largest = FORMS * self.profile.suites[0] * sizes.encoder(first, layout)
        told = "removed again when that is done"
        yield Need("working file", "of test-time adaptation", Finding("made later", told, largest))

    @property
    def _on_hub(self) -> bool:
        return self.settings.images.reader == "hub"

    def _text_tower(self, backbone: str) -> Finding:
        folder = self.settings.checkpoints_folder
        file, shapes = openclip.openai_file(folder, backbone), backbones.whole(backbone)
        if not file.is_file():
            repository, needed = openclip.openai_offer(folder, backbone).repository, backbones.size(shapes)
            told = f"{file}: OpenAI's CLIP is missing; fetch it from {repository} on the hub"
            return Finding("missing", f"{told} (about {size(needed)}, licence: MIT).", needed)
        try:
            backbones.matched(file, open_checkpoint(file).layout, shapes, "", re.compile(".*"))
        except InputError as error:
            return Finding("wrong", str(error), file.stat().st_size)
        return Finding("present", f"in {folder}", file.stat().st_size)

    def _checkpoint(self, backbone: str, task: str | None) -> Finding:
        """Return what the source finds, as far as possible in words that are the same for all of its checkpoints."""
        folder = self.settings.checkpoints_folder
        found = self.source.look(folder, backbone, task)
        if found.state == "present":
            return replace(found, told=f"in {folder}")
        if found.state == "missing" and self.source.offer(folder, backbone, task):
            told = f"{folder}: missing, but on the hub ({size(found.bytes or 0)} each); fetch them."
            return replace(found, told=told)
        return found

    def _base(self, backbone: str) -> Finding:
        file = paths.cache(self.profile.name) / "bases" / f"{backbone}.safetensors"
        left = None if file.is_file() else sizes.encoder(backbone, self.source.layout)
        return Finding("made later" if left else "present", f"in {file.parent}", left)

    def _decoded(self, task: str, name: SplitName) -> Finding:
        """Tell by the sizes of files; whether they are of the images that are meant is seen when these are opened."""
        folder, of_one = places.decoded(self.profile.name, task, name), sizes.image(self.image_size)
        files = folder.glob("*.images") if folder.is_dir() else ()
        left = self.count(task, name) - sum(file.stat().st_size for file in files) // of_one
        told = f"in {folder.parent.parent}"
        return Finding("made later", told, left * of_one) if left > 0 else Finding("present", told)

    def _decompositions(self) -> Finding:
        folder = paths.cache(self.profile.name) / "spectra"
        store = Spectra(folder)
        whole = sizes.decompositions(self.profile.backbones, self.source.layout, len(self.tasks))
        there, kept = machine.held(folder), min(whole, store.limit)
        told = f"{size(there)} of {size(kept)} in {folder}"
        return Finding("made later", told, kept - there) if there < kept else Finding("present", told, there)
