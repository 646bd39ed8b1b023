# SPDX-License-Identifier: MIT
"""How many independent sources stand behind the inputs of each task: what errors of accuracies rest on."""

import hashlib
from collections.abc import Iterator

from compendium.profiles import Profile
from compendium.study.runs import Row
from compendium.worlds.protocol import SplitName, suite, world_of
from tsvlib.errors import InputError

MEASURED: tuple[SplitName, ...] = ("validation", "test")
COLUMNS = {
    "task": "task of the inputs",
    "split": "which of its splits",
    "inputs": "how many inputs",
    "sources": "how many sources these show, such as typefaces, scans or tiles of photographs",
    "order": "number of the source of each image, in the order of the split, from 0 and by first appearance",
    "names": "of each of these sources, the first eight hex digits of its name's SHA-256; tasks can share a source",
}


def rows(profile: Profile) -> Iterator[Row]:
    """Yield a row for each task of a profile and each split on which accuracies are measured.

    InputError where a world does not tell one source for each input.
    """
    for task in suite(profile, profile.tasks):
        for name in MEASURED:
            split = world_of(profile).split(task, name)
            if len(split.sources) != len(split.labels):
                raise InputError(
                    f"task {task}: {len(split.sources)} sources for {len(split.labels)} inputs of the {name} split; "
                    "let the world tell one for each."
                )
            numbers = {source: number for number, source in enumerate(dict.fromkeys(split.sources))}
            yield {
                "task": task,
                "split": name,
                "inputs": len(split.sources),
                "sources": len(numbers),
                "order": " ".join(str(numbers[source]) for source in split.sources),
                "names": " ".join(hashlib.sha256(source.encode()).hexdigest()[:8] for source in numbers),
            }
