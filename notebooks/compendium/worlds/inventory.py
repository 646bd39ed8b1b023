# SPDX-License-Identifier: MIT
"""Where the experts that are made here lie, and whether those that were finished are still there.

``python -m compendium check-experts`` runs before every build and must not pay for importing torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compendium import manifests, paths, profiles
from compendium.profiles import Profile
from tsvlib.errors import InputError


@dataclass(frozen=True, order=True)
class Expert:
    """One fine-tuned model: a backbone, the task it was trained on, the seed of its training."""

    backbone: str
    task: str
    seed: int

    @property
    def name(self) -> str:
        """The stem of the expert's file."""
        return f"{self.backbone}__{self.task}__{self.seed}"


def folder(profile: Profile) -> Path:
    """Return the folder of a profile's expert files."""
    return paths.cache(profile.name) / "experts"


def path(profile: Profile, expert: Expert) -> Path:
    """Return the file of one expert."""
    return folder(profile) / f"{expert.name}.safetensors"


def unfinished(profile: Profile, expert: Expert) -> Path:
    """Return the file in which a long training may keep how far it is, until the expert is finished."""
    return folder(profile) / f"{expert.name}.unfinished"


def manifest_file(profile: Profile) -> Path:
    """Return the file that lists every expert of the profile with the sha256 of its file, once all are finished."""
    further = _further_seeds(profile)
    seeds = f"-further_seeds-{further}" if further else ""
    return paths.cache(profile.name) / f"experts{seeds}{profile.part}.json"


def first_suite_file(profile: Profile) -> Path:
    """Return the file that does so for the experts of the first suite, which are all that the tour needs."""
    return paths.cache(profile.name) / f"experts-first_suite{profile.part}.json"


def manifest_files(profile: Profile) -> list[Path]:
    """Return every list of finished experts that the profile has."""
    return sorted(paths.cache(profile.name).glob("experts*.json"))


def check(profile: Profile) -> None:
    """Compare every file that a list names with its sha256; the first missing or changed one is an InputError.

    Without a list there is nothing to compare: the experts were never finished.
    """
    manifests.check(manifest_files(profile), folder(profile), remedy(profile, "make it again"))


def remedy(profile: Profile, end: str = "make it") -> str:
    """Return what to type about an expert that is missing or broken, and to what ``end``."""
    return f"run `{paths.command('experts', profile.name, _further_seeds(profile), profile.part)}` to {end}"


def is_current(file: Path, recipe: Mapping[str, object]) -> bool:
    """Tell whether a checkpoint is complete, undamaged and of this recipe."""
    from tsvlib import checkpoints

    if not file.is_file():
        return False
    try:
        if checkpoints.recipe(file) != recipe:
            return False
        checkpoints.verify(file)
    except InputError:
        return False
    return True


def _further_seeds(profile: Profile) -> int:
    """Return how many seeds more than its file states the profile has for every backbone."""
    first = profile.backbones[0]
    return max(0, len(first.seeds) - len(profiles.load(profile.name).backbone(first.name).seeds))
