# SPDX-License-Identifier: MIT
"""What ``data/clip/local.toml`` says: whose checkpoints and which images are meant, and where they lie here."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compendium import paths, profiles, provenance
from compendium.worlds.clip.options import Options
from tsvlib.errors import InputError

OWN = "own"
"""The source of experts that are trained here."""

INSTEAD = {
    "source": "TSV_CLIP_SOURCE",
    "folder": "TSV_CLIP_CHECKPOINTS",
    "generation": "TSV_CLIP_GENERATION",
}
"""Variables of the environment that say something else than the file does, by key of its checkpoints."""


@dataclass(frozen=True)
class Checkpoints:
    """Where experts come from: a source by name, its folder (empty: in the cache), and which expert of DTD it has."""

    source: Literal["tall-masks", "tsv", "task-arithmetic", "fusion-bench", "own"]
    folder: str
    generation: Literal["old", "clean", "unknown"]


@dataclass(frozen=True)
class Images:
    """Where images come from: torchvision's layouts or copies of the hub, and their folder (empty: in the cache)."""

    reader: Literal["local", "hub"]
    folder: str


@dataclass(frozen=True)
class Settings:
    """All that the file says."""

    checkpoints: Checkpoints
    images: Images
    options: Options

    @property
    def checkpoints_folder(self) -> Path:
        """Return the folder of the source's checkpoints."""
        return _folder(self.checkpoints.folder, f"checkpoints/{self.checkpoints.source}")

    @property
    def images_folder(self) -> Path:
        """Return the folder below which each data set has its own."""
        return _folder(self.images.folder, "images")


def load(profile: str) -> Settings:
    """Return what the file of a profile says; InputError, with the key, where it says something else."""
    file = profiles.folder(profile) / "local.toml"
    try:
        content = tomllib.loads(provenance.read(file).decode())
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); restore it from git.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: not valid TOML ({error}); correct the file.") from error
    given = {key: os.environ[name] for key, name in INSTEAD.items() if os.environ.get(name)}
    if given and isinstance(content.get("checkpoints"), dict):
        content["checkpoints"] |= given
    found: Settings = profiles.built(Settings, content, file)
    return found


def read_instead(source: str, folder: str, generation: str = "") -> None:
    """Let this process, and those that it starts, read checkpoints of another source or folder; empty: as in the file.

    This is for what is built afterwards. A folder without a source holds checkpoints of the source in the file, and
    which expert of DTD they have is as in the file where no ``generation`` is given.
    """
    for key, value in {"source": source, "folder": folder, "generation": generation}.items():
        if value:
            os.environ[INSTEAD[key]] = value


def _folder(given: str, usual: str) -> Path:
    """Return a folder that a user names, from the checkout on where it is not absolute, or one of the cache."""
    return paths.ROOT / Path(given).expanduser() if given else paths.cache("clip") / usual
