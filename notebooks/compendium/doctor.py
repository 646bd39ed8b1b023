# SPDX-License-Identifier: MIT
"""What a run of a profile needs, and whether this machine has it: seen in seconds, before anything heavy begins."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from compendium import costs, machine, paths, terminal
from compendium.machine import Machine
from compendium.profiles import Profile
from compendium.study.forwards import SizedWorld, forwards
from compendium.worlds.findings import Finding, size
from compendium.worlds.protocol import Need, World, world_of
from tsvlib.errors import InputError

CAN_DO_WITHOUT = ("store of decompositions",)
"""What a run goes on without when the disk is full, though it takes longer."""

HEADINGS = ("What", "State", "Told")


@dataclass(frozen=True)
class Report:
    """What was found for a profile, things that a run rests on first, then this machine."""

    profile: str
    needs: Sequence[Need]
    part: str = ""

    @property
    def in_the_way(self) -> list[Need]:
        """Return what a run would fail over."""
        return [need for need in self.needs if need.finding.is_in_the_way]

    def table(self, width: int) -> str:
        """Return a table with a row for each thing, or for several that are told in the same words."""
        rows = [_row(group) for group in _groups(self.needs)]
        return terminal.table([HEADINGS, *rows], width)

    def advice(self) -> str:
        """Return what to do first."""
        if not self.in_the_way:
            return f"Nothing is in the way: run `{self._command('paper')}`."
        first, count = self.in_the_way[0], len(self.in_the_way)
        things = "One thing is" if count == 1 else f"{count} things are"
        if first.can_fetch and first.finding.state == "missing":
            fetched = sum(need.can_fetch and need.finding.state == "missing" for need in self.in_the_way)
            return f"{things} in the way: run `{self._command('fetch')}`, which gets {fetched} of them."
        return f"{things} in the way; first, {_name(first)}: {_short(first.finding.told)}"

    def _command(self, target: str) -> str:
        return paths.command(target, self.profile, part=self.part)


def examine(profile: Profile) -> Report:
    """Return what a run of a profile needs; headers, sizes and counts are looked at, and no content of large files.

    Raises:
        InputError: the settings of the profile, or of its world, are no such settings.
    """
    world = world_of(profile)
    needs, here = list(world.needs()), machine.found(profile.device)
    about_here = (_disk(profile, needs), _memory(profile, here), _device(here), _time(profile, world, here))
    return Report(profile.name, [*needs, *about_here], profile.part)


def check(profile: Profile) -> None:
    """Raise InputError, with the first of them, when something is in the way of a run of a profile."""
    report = examine(profile)
    if report.in_the_way:
        listing = f"`{paths.command('doctor', profile.name, part=profile.part)}` lists all that is in the way"
        first = report.in_the_way[0]
        raise InputError(f"profile {profile.name}, {_name(first)}: {first.finding.told.rstrip('.')}; {listing}.")


def _disk(profile: Profile, needs: Sequence[Need]) -> Need:
    """Tell whether there is room for all that is made later, or at least for what a run cannot do without."""
    folder = paths.cache(profile.name)
    later = [need for need in needs if need.finding.state == "made later"]
    whole = sum(need.finding.bytes or 0 for need in later)
    least = sum(need.finding.bytes or 0 for need in later if need.kind not in CAN_DO_WITHOUT)
    free, missing = machine.room(folder), sum(n.finding.bytes or 0 for n in needs if n.finding.state == "missing")
    told = f"{folder}: {size(free)} are free, and {size(whole)} are to be written"
    if missing:
        told += f", beside {size(missing)} of what is missing, wherever that goes"
    if free < least:
        return Need("disk", "", Finding("wrong", f"{told}; free some space, or choose another folder with OUT=FOLDER."))
    if free < whole:
        return Need("disk", "", Finding("doubtful", f"{told}, of which {size(least)} must be; the rest saves time."))
    return Need("disk", "", Finding("present", f"{told}."))


def _memory(profile: Profile, here: Machine) -> Need:
    needed = costs.of(profile.name).memory
    told = f"{size(here.available)} of {size(here.memory)} are available"
    if needed is None:
        return Need("memory", "", Finding("present", f"{told}."))
    told = f"{told}, and about {size(needed)} are needed"
    if here.available < needed:
        return Need("memory", "", Finding("doubtful", f"{told}; end other programs, or let make work with JOBS=1."))
    return Need("memory", "", Finding("present", f"{told}."))


def _device(here: Machine) -> Need:
    cores = "1 core" if here.cores == 1 else f"{here.cores} cores"
    told = f"{here.gpu}, {size(here.gpu_memory)}" if here.gpu else f"{here.processor}, {cores}"
    return Need("device", "", Finding("present", f"{told}."))


def _time(profile: Profile, world: World, here: Machine) -> Need:
    """Tell how long a whole run was seen to take, or is thought to take by what passes through encoders."""
    known = costs.of(profile.name)
    if known.minutes and not profile.part:
        least, most = known.minutes
        span = f"about {most}" if least == most else f"{least} to {most}"
        told = f"a whole run takes {span} minutes on {known.on}, as measured."
    elif isinstance(world, SizedWorld):
        told = _estimate(forwards(profile, world), world, here)
    else:
        told = "not known: nobody has measured this profile."
    return Need("time", "", Finding("present", told))


def _estimate(passing: dict[str, int], world: SizedWorld, here: Machine) -> str:
    rate = costs.gpu(here.gpu) if here.gpu else costs.cores(here.cores)
    seconds = sum(rate.seconds(count, world.operations(backbone)) for backbone, count in passing.items())
    hours = seconds / 3600
    span = (
        f"{60 * hours:.0f} minutes" if hours < 2 else f"{hours:.0f} hours" if hours < 72 else f"{hours / 24:,.0f} days"
    )
    inputs = f"{sum(passing.values()) / 1e6:,.1f} million {world.inputs} pass through encoders"
    assumed = f"{rate.title} does {rate.operations / max(1, 0 if here.gpu else here.cores) / 1e12:.3g}"
    return (
        f"about {span} for a whole run, estimated, not measured: {inputs} at most, and {assumed} * 10^12 operations a "
        "second; decoding, merging and training of experts come on top."
    )


def _groups(needs: Sequence[Need]) -> Iterator[list[Need]]:
    """Yield things of one kind that are told in the same words, in the order of the first of each."""

    def place(need: Need) -> tuple[str, str, str, str]:
        return need.kind, need.of, need.finding.state, need.finding.told

    first = {place(need): number for number, need in reversed(list(enumerate(needs)))}
    for _, group in groupby(sorted(needs, key=lambda need: first[place(need)]), key=place):
        yield list(group)


def _row(group: Sequence[Need]) -> tuple[str, str, str]:
    first, total = group[0], sum(need.finding.bytes or 0 for need in group)
    named = [need.name for need in group if need.name]
    told = _short(first.finding.told)
    if first.finding.is_in_the_way:
        told = f"{', '.join(named)}: {told}" if len(group) > 1 else told
    elif total:
        told = f"{told.rstrip('.')} ({size(total)})"
    return _name(first) if len(group) == 1 else _several(group), first.finding.state, told


def _several(group: Sequence[Need]) -> str:
    of = f" of {group[0].of}" if group[0].of else ""
    return f"{len(group)} {group[0].kind}s{of}"


def _short(told: str) -> str:
    """Return a sentence with files of the checkout by their paths in it."""
    return told.replace(f"{paths.ROOT}/", "")


def _name(need: Need) -> str:
    """Return a name such as ``checkpoint MNIST of ViT-B-32``."""
    return " ".join(filter(None, (need.kind, need.name, need.of and f"of {need.of}")))
