# SPDX-License-Identifier: MIT
"""README, Makefile, notebooks and files tell the same story."""

import ast
import re
import subprocess

import pytest
from graph import calls, closure, files_of, imported_modules, rules

from compendium import paths, profiles
from compendium.paper import readme
from tsvlib.errors import InputError

ROOT = paths.ROOT
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))
GRAPH = rules()
LISTED = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
FILES = [ROOT / name for name in subprocess.check_output(LISTED, cwd=ROOT, text=True).split("\0") if name]
MODULES = sorted(file for folder in ("tsvlib", "notebooks/compendium") for file in (ROOT / folder).rglob("*.py"))
# A change of these changes no number; what experts and checkpoints hand over is verified by content.
PLUMBING = {"checkpoints", "errors", "experts", "files", "paths", "profiles", "progress", "provenance", "results"}

each_notebook = pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda source: source.stem)


def targets_of(source):
    return {target for target, needs in GRAPH.items() if needs[0] == f"notebooks/{source.name}"}


@each_notebook
def test_a_rule_states_what_its_notebook_writes(source):
    expected = {f"notebooks/{source.stem}.ipynb"}
    for name in calls(source, "results", "save"):
        expected |= {f"data/results/mini/{name}.{suffix}" for suffix in ("csv", "json")}
    for stem in calls(source, "plotting", "save_figure", position=1):
        expected |= {f"figures/mini/{stem}.{suffix}" for suffix in ("pdf", "svg", "png", "txt")}
    for stem in calls(source, "results", "save_table"):
        expected |= {f"figures/mini/{stem}.{suffix}" for suffix in ("csv", "md", "tex")}
    assert targets_of(source) == expected


@each_notebook
def test_a_rule_states_what_its_notebook_reads(source):
    needs = {need for need in GRAPH[f"notebooks/{source.stem}.ipynb"] if need.startswith("data/results/")}
    reads = {
        f"data/results/mini/{name}.{suffix}" for name in calls(source, "results", "load") for suffix in ("csv", "json")
    }
    assert reads <= needs
    # Every compute notebook follows 10_checkpoints, which may touch the manifest of the experts.
    made_first = {
        f"data/results/mini/{name}.{suffix}" for name in ("checkpoints", "sources") for suffix in ("csv", "json")
    }
    spared = made_first if source.name[0] == "1" else set()
    assert needs - reads <= spared


@each_notebook
def test_a_changed_module_remakes_what_was_computed_with_it(source):
    needs = closure(f"notebooks/{source.stem}.ipynb", GRAPH)
    for module in imported_modules(source):
        plumbing = not PLUMBING.isdisjoint(module.split("."))
        assert plumbing or files_of(module) & needs, f"no change of {module} would remake {source.stem}"


@each_notebook
def test_everything_follows_from_the_experts(source):
    manifest = "experts-first_suite" if source.stem == "00_tour" else "experts"
    assert f"data/cache/mini/{manifest}.json" in closure(f"notebooks/{source.stem}.ipynb", GRAPH)


def test_the_tour_waits_for_no_other_notebook():
    needs = closure("notebooks/00_tour.ipynb", GRAPH)
    assert not {need for need in needs if need.startswith(("data/results", "figures"))}
    assert "data/cache/mini/experts.json" not in needs


@pytest.mark.parametrize("page", ["README.md", "data/README.md", "figures/README.md"])
def test_links_lead_to_files_that_exist_or_that_make_makes(page):
    file = ROOT / page
    for link in re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8")):
        if "://" not in link:
            target = (file.parent / link).resolve()
            assert target.exists() or target.relative_to(ROOT).as_posix() in GRAPH, link


@each_notebook
def test_the_readme_lists_the_notebook_with_what_it_writes(source):
    rows = [line for line in README.splitlines() if f"(notebooks/{source.stem}.ipynb)" in line]
    assert len(rows) == 1
    saved = {f"(data/results/mini/{name}.csv)" for name in calls(source, "results", "save")}
    saved |= {f"(figures/mini/{name}.md)" for name in calls(source, "results", "save_table")}
    saved |= {f"(figures/mini/{name}.svg)" for name in calls(source, "plotting", "save_figure", 1)}
    assert {name for name in re.findall(r"\([^)]+\)", rows[0]) if "/mini/" in name} == saved


def test_the_table_of_the_readme_is_that_of_the_notebooks():
    assert readme.renewed(README) == README


def test_the_readme_tells_the_numbers_of_images_that_the_profile_has():
    told = re.search(r"([\d,]+) training, (\d+) validation and (\d+) test images", README)
    wanted = profiles.load("mini").samples
    assert [int(number.replace(",", "")) for number in told.groups()] == [
        wanted.train,
        wanted.validation,
        wanted.test,
    ]


def test_a_readme_without_a_place_for_the_table_is_told():
    with pytest.raises(InputError, match="is missing; put it back"):
        readme.renewed("# A title")


def test_the_readme_names_targets_that_exist_and_every_dependency():
    names = ("beyond", "cluster", "doctor", "compare", "course")
    parts = ("Makefile", *(f"notebooks/compendium/{name}.mk" for name in names))
    rules = "".join((ROOT / name).read_text("utf-8") for name in parts)
    phony = set(re.findall(r"^([a-z-]+):.*##", rules, re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)", README)) <= phony
    listed = README.partition("## What it stands on")[2].partition("\n## ")[0]
    for line in (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines():
        if wanted := re.match(r'    "([a-zA-Z_-]+)[><]=', line):
            assert re.search(rf"\b{wanted[1]}\b", listed), wanted[1]


def test_the_repository_stays_small():
    weights = [file for file in FILES if file.suffix == ".safetensors"]
    assert sum(file.stat().st_size for file in weights) <= 25e6
    for file in set(FILES) - set(weights):
        limit = 3e6 if file.stem == "paper" else 300e3 if file.suffix == ".ipynb" else 1e6
        assert file.stat().st_size <= limit, file


def test_no_file_names_a_place_of_some_machine():
    place = re.compile(r"(?<![\w.])/" + r"(home|root|Users|tmp|work|mnt|opt)/\w")
    quoted = ROOT / "data" / "minilm"  # texts that other people wrote
    for file in (file for file in FILES if not file.is_relative_to(quoted)):
        if file.suffix in {".csv", ".json", ".ipynb", ".md", ".txt", ".svg", ".py", ".toml", ".yml", ".lock", ""}:
            assert not place.search(file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.relative_to(ROOT).as_posix())
def test_modules_and_functions_can_be_read_in_one_sitting(module):
    text = module.read_text(encoding="utf-8")
    assert text.startswith("# SPDX-License-Identifier: MIT\n")
    assert "from __future__ import annotations" not in text
    assert len(text.splitlines()) <= 300
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 40, f"{node.name} is too long"
