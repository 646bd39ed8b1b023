# SPDX-License-Identifier: MIT
"""The house has no arrow back: who may import whom, read from the imports themselves."""

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

from compendium import paths

ROOTS = {"tsvlib": paths.ROOT, "compendium": paths.ROOT / "notebooks"}
MOST_FLOORS = 8
# Rooms of a building, from the ground up; a room may import those below it, and of its own floor none.
TSVLIB = (
    {"errors"},
    {"devices", "eigen", "exhaustion", "files", "precision", "progress", "selection", "versions"},
    {"checkpoints", "linalg", "taskvectors"},
    {"adapters", "computing"},
    {"layers", "sti", "store", "suites"},
    {"compression", "methods"},
    {"merging", "search"},
    {"cli"},
)
# Beside these, study and paper rest on worlds, and neither knows the other.
COMPENDIUM = (
    {"engine", "gpus", "manifests", "paths", "terminal", "views"},
    {"cluster", "costs", "sourcecode"},
    {"provenance"},
    {"machine", "profiles", "published"},
    {"runner", "worlds"},
    {"paper", "prose", "study"},
    {"course", "doctor"},
    {"commands"},
)
FLOORS = {"tsvlib": TSVLIB, "compendium": COMPENDIUM}
# The front door and what starts a command line stand outside.
DOORS = {"tsvlib", "tsvlib.__main__", "compendium", "compendium.__main__"}


def modules(building: str) -> dict[str, Path]:
    """Return the files of a building by their dotted names."""
    root = ROOTS[building]
    files = (root / building).rglob("*.py")
    names = {file: ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for file in files}
    return {name: file for file, name in names.items()}


ALL = modules("tsvlib") | modules("compendium")


def imported(file: Path) -> set[str]:
    """Return the modules of both buildings that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: write imports in full"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in ALL else str(node.module) for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] in ROOTS}


def floor(building: str, room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS[building]) if room in rooms)


GRAPH: Mapping[str, set[str]] = {name: imported(file) for name, file in ALL.items()}


@pytest.mark.parametrize("building", FLOORS)
def test_every_room_has_its_floor(building: str) -> None:
    rooms = {name.split(".")[1] for name in modules(building) if name not in DOORS}
    assert rooms == set().union(*FLOORS[building])
    assert sum(map(len, FLOORS[building])) == len(rooms)
    assert len(FLOORS[building]) <= MOST_FLOORS


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_arrows_point_down(name: str) -> None:
    if name in DOORS:
        return
    building, room, *_ = name.split(".")
    for target in GRAPH[name]:
        other, *rest = target.split(".")
        assert building == "compendium" or other == "tsvlib", f"{name} -> {target}: tsvlib knows no experiment"
        assert rest, f"{name} -> {target}: name the module, not the front door"
        if other == building:
            below = floor(building, rest[0]) < floor(building, room)
            assert rest[0] == room or below, f"{name} -> {target} points up or across"


@pytest.mark.parametrize("name", sorted(GRAPH))
def test_no_module_rests_on_itself(name: str) -> None:
    seen: set[str] = set()
    waiting = set(GRAPH[name])
    while waiting:
        module = waiting.pop()
        assert module != name, f"{name} imports itself through others"
        if module not in seen:
            seen.add(module)
            waiting |= GRAPH.get(module, set())


def test_notebooks_import_from_both_buildings_and_nothing_imports_them() -> None:
    for source in (paths.ROOT / "notebooks").glob("*.py"):
        found = [name.split(".") for name in imported(source)]
        assert {root for root, *_ in found} <= set(ROOTS)
        # The digest of a table's code cannot see through the front door.
        assert all(rest for _, *rest in found), f"{source.name}: name the module, not the front door"
