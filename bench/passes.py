# SPDX-License-Identifier: MIT
"""How many images pass through encoders for the profile ``clip``, how long that takes, and how much room all needs.

``python -m bench.passes`` prints the tables in ``data/clip/README.md``. Rates on an H100 are those that the step
``encoding`` measured; a GPU with 16 GB is taken to be as ``data/costs.toml`` has it.
"""

from collections.abc import Mapping
from pathlib import Path

from bench import counts, table
from bench.run import RESULTS
from compendium import costs, profiles
from compendium.profiles import Profile
from compendium.study import alpha, forwards
from compendium.study.forwards import SEARCH, SizedWorld
from compendium.worlds.clip import images, local, needs, sizes
from compendium.worlds.clip.local import downloads
from compendium.worlds.clip.sources import backbones
from compendium.worlds.clip.world import Clip
from compendium.worlds.protocol import SplitName, suite, world_of
from tsvlib.errors import InputError
from tsvlib.store import Spectra

GRID = 30
"""Alphas of the grids of the official code, each of which it scores on all validation images of a suite."""

SEARCHED, FIXED = 5, 3
"""Models of a suite whose alpha is searched (task arithmetic, Consensus TA, TSV-M, its halves), and others."""

SHARES: Mapping[str, int] = {"ViT-B-32": 11, "ViT-B-16": 11, "ViT-L-14": 15}
"""Shares of components that the official code measures experts with."""

PART = {"backbones": "ViT-B-32", "suites": "8"}
NOWHERE = Path("no such folder")
Passes = Mapping[str, int]
"""Images that pass through the encoder of each backbone."""


def official(profile: Profile, world: SizedWorld) -> dict[str, int]:
    """Return what the protocol of the official code takes for the figures and tables that it has code for.

    With V and T for all validation and test images of the tasks at hand, a backbone takes

    - all tasks: V + T for experts, T for the base, T for each share of components,
    - each suite: 30 V + T for each of the models whose alpha is searched, T for averaging, TSV-C and TALL masks,
    - each subset of Figure 7: V for each of its ten alphas.

    Masks are downloaded there. Counted with the splits of ``world``, in which EuroSAT has fewer test images.
    """
    return {each.name: _shared(profile, world, each.name, GRID, SHARES[each.name]) for each in profile.backbones}


def same(profile: Profile, world: SizedWorld) -> dict[str, int]:
    """Return what this project takes at most for the same: ten alphas instead of thirty, and its shares."""
    shares = len(profile.fractions)
    return {each.name: _shared(profile, world, each.name, SEARCH, shares) for each in profile.backbones}


def real_row(profile: Profile, world: SizedWorld) -> dict[str, int]:
    """Return what ``make real-row`` takes at most: base, experts and three merged models, two of which are searched."""
    backbone, tasks = profile.backbones[0].name, suite(profile, profile.suites[0])
    validation, test = (_images(world, name, tasks) for name in needs.MEASURED)
    return {backbone: (1 + 2 * SEARCH) * validation + 5 * test}


def hours() -> str:
    """Return the table of images and of the hours in which they pass through encoders, as Markdown."""
    whole, part = profiles.load("clip"), profiles.load("clip", **PART)
    world = _world(whole)
    found = forwards.forwards(whole, world)
    small = forwards.forwards(part, _world(part))
    rows: dict[str, Passes] = {"`make paper PROFILE=clip`, at most": found}
    rows |= {f"of it {backbone.label}": {backbone.name: found[backbone.name]} for backbone in whole.backbones}
    rows["of it what the official code has, too"] = same(whole, world)
    rows["the same by the official code's protocol"] = official(whole, world)
    rows[f"`BACKBONES={PART['backbones']} SUITES={PART['suites']}`, at most"] = small
    rows["`make real-row`, at most"] = real_row(whole, world)
    head = ["", "images (millions)", "H100, float16 (h)", "H100, float32 (h)", "16 GB, estimated (h)"]
    return counts.markdown(head, {title: _line(passes) for title, passes in rows.items()})


def room() -> str:
    """Return the table of what is downloaded and written, in GB, as Markdown."""
    parts = {
        "all": profiles.load("clip"),
        "`BACKBONES=ViT-B-32`": profiles.load("clip", PART["backbones"]),
        "and `SUITES=8`": profiles.load("clip", **PART),
    }
    columns = [_sizes(part) for part in parts.values()]
    rows = {title: [f"{column[title] / 1e9:.1f}" for column in columns] for title in columns[0]}
    return counts.markdown(["GB", *parts], rows)


def _shared(profile: Profile, world: SizedWorld, backbone: str, alphas: int, shares: int) -> int:
    every = suite(profile, profile.tasks)
    found = _images(world, "validation", every) + (2 + shares) * _images(world, "test", every)
    for n_tasks in profile.suites:
        tasks = suite(profile, n_tasks)
        found += SEARCHED * alphas * _images(world, "validation", tasks)
        found += (SEARCHED + FIXED) * _images(world, "test", tasks)
    subsets = alpha.subsets(profile, backbone).values()
    return found + forwards.alphas() * sum(_images(world, "validation", tasks) for tasks in subsets)


def _images(world: SizedWorld, name: SplitName, tasks: tuple[str, ...]) -> int:
    return sum(world.count(task, name) for task in tasks)


def _line(passes: Passes) -> list[str]:
    """Return millions of images, and hours at each rate."""
    seconds = [sum(count / _rate(name, kind) for name, count in passes.items()) for kind in ("float16", "float32")]
    small = costs.gpu("")
    seconds.append(sum(small.seconds(count, sizes.operations(name)) for name, count in passes.items()))
    return [f"{sum(passes.values()) / 1e6:.1f}", *(f"{value / 3600:.{2 if value < 3600 else 1}f}" for value in seconds)]


def _rate(backbone: str, kind: str) -> float:
    """Return how many images an H100 encoded in a second with one model, as measured."""
    wanted = f"{backbone} in {kind}, 1 in one pass"
    for row in table.read(RESULTS / "bench.csv"):
        if row.step == "encoding" and "H100" in row.case and row.quantity == wanted:
            return row.value
    raise InputError(
        f"{RESULTS / 'bench.csv'}: no row {wanted!r} of an H100; run `python -m bench.run encoding` there."
    )


def _sizes(profile: Profile) -> dict[str, int]:
    world = world_of(profile)
    assert isinstance(world, Clip)
    layout, tasks = world.source.layout, world.tasks
    names = [backbone.name for backbone in profile.backbones]
    sets = {task.name: local.look(task, NOWHERE).bytes or 0 for task in tasks}
    fetched = {name: size for name, size in sets.items() if downloads.WAYS[name].asked}
    models = [world.source.look(NOWHERE, name, task.name).bytes or 0 for name in names for task in tasks]
    decoded = sum(world.count(task, name) for name in needs.MEASURED for task in sets)
    store = sizes.decompositions(profile.backbones, layout, len(tasks))
    return {
        f"download: checkpoints of {world.source.name}": sum(models),
        "download: OpenAI's models": sum(backbones.size(backbones.whole(name)) for name in names),
        "download: data sets that `make fetch` gets": sum(fetched.values()),
        "download: data sets to be had by hand": sum(sets.values()) - sum(fetched.values()),
        "cache: experts and bases": (len(tasks) + 1) * sum(sizes.encoder(name, layout) for name in names),
        "cache: decoded images": decoded * sizes.image(images.SIZE),
        "cache: decompositions, at most": min(store, Spectra(NOWHERE).limit),
        "cache: working file": needs.FORMS * profile.suites[0] * sizes.encoder(names[0], layout),
    }


def _world(profile: Profile) -> SizedWorld:
    world = world_of(profile)
    assert isinstance(world, SizedWorld)
    return world


if __name__ == "__main__":
    import sys

    sys.stdout.write(f"{hours()}\n\n{room()}\n")
