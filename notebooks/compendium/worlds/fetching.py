# SPDX-License-Identifier: MIT
"""What a world can fetch of what it needs, for those that need anything that does not come with the checkout."""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from compendium import paths, terminal
from compendium.profiles import Profile
from compendium.worlds import offline
from compendium.worlds.findings import size
from compendium.worlds.protocol import Need, World, world_of
from tsvlib.errors import InputError

What = Literal["checkpoints", "images", "all"]


class Wanted(NamedTuple):
    """One thing that must be there before a run, and what fetches it, where anything does."""

    need: Need
    fetch: Callable[[], object] | None = None


@runtime_checkable
class FetchingWorld(World, Protocol):
    """A world that needs what others publish."""

    def wanted(self, what: What) -> Iterable[Wanted]:
        """Yield what must be there before a run."""


def fetch(profile: Profile, what: What) -> None:
    """Fetch what is missing and can be had, one after the other, and say what is still missing at the end.

    What one of them says when it cannot be fetched does not keep the others from being tried.

    Raises:
        InputError: the network is forbidden (``offline``), or something is still missing, or wrong, which fetching does
            not change.
    """
    world = world_of(profile)
    if not isinstance(world, FetchingWorld):
        terminal.tell(f"{profile.name}: there is nothing to fetch; all that it needs comes with checkout and packages.")
        return
    left = [each for each in world.wanted(what) if each.need.finding.is_in_the_way]
    able = [each for each in left if each.fetch and each.need.finding.state == "missing"]
    if able and (switch := offline.switch()):
        raise InputError(
            f"{profile.name}: {switch} is set, so none of {len(able)} things that are missing is fetched; unset "
            f"it, or put them where `{paths.command('doctor', profile.name, part=profile.part)}` says."
        )
    if able:
        total = sum(each.need.finding.bytes or 0 for each in able)
        terminal.tell(f"{profile.name}: {len(able)} downloads, about {size(total)} in all; interrupt them at any time.")
    done = sum(_is_fetched(each.fetch) for each in able if each.fetch)
    if done < len(left):
        raise InputError(
            f"{profile.name}: not all is there yet ({len(left) - done} of {len(left)} left); "
            f"`{paths.command('doctor', profile.name, part=profile.part)}` tells how to get the rest."
        )
    terminal.tell(f"{profile.name}: all is there.")


def _is_fetched(fetch: Callable[[], object]) -> bool:
    try:
        fetch()
    except InputError as error:
        terminal.tell(str(error))
        return False
    return True
