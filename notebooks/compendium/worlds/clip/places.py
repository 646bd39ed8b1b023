# SPDX-License-Identifier: MIT
"""Where this world keeps what it makes: in the cache of a profile, apart from what was fetched."""

from pathlib import Path

from compendium import paths
from compendium.worlds.protocol import SplitName


def head(profile: str, backbone: str, task: str) -> Path:
    """Return the file of a zero-shot head."""
    return paths.cache(profile) / "heads" / backbone / f"{task}.safetensors"


def decoded(profile: str, task: str, split: SplitName) -> Path:
    """Return the folder of a split's decoded images; among the originals it could be taken for a data set."""
    return paths.cache(profile) / "decoded" / task / split
