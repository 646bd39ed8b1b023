# SPDX-License-Identifier: MIT
"""The graph of the paper in motion, with a stand-in for Python that makes files in no time."""

import dataclasses
import os
import re
import shutil
import stat
import subprocess
import sys

import nbformat
import pytest
from graph import rules

from compendium import paths, profiles
from compendium.worlds import inventory

COMPENDIUM = "notebooks/compendium"
NOTEBOOK = re.compile(r"notebooks/(\d\d)_\w+\.py")
# Called as `python -m MODULE ARGUMENT...`; notes the call, fails where told to, and touches what the rule promises.
STAND_IN = """#!/usr/bin/env bash
call="$2 $3"
if [ "$2 $3" = "compendium run" ]; then call="run $4"; fi
echo "$call" >> calls
echo "$*" >> words
echo "${TSV_OUTPUT:-}|${TSV_CACHE:-}|${TSV_STAGE:-}" >> redirected
echo "${TSV_SCHEDULER:-}" >> scheduler
if grep -qsxF -e "$call" -e "${!#}" failing; then echo "the reason"; exit 1; fi
case "$call" in
  "compendium train") maker=$([[ "$*" == *--first-suite* ]] && echo first || echo experts) ;;
  "compendium page") maker=page ;;
  "run "*) maker=$4 ;;
  *) exit ;;
esac
sleep 0.01
for file in $(sed -n "s|^$maker ||p" products); do mkdir -p "$(dirname "$file")"; echo new > "$file"; done
"""
PYTHON3 = """#!/usr/bin/env bash
if [ "$1" = --version ]; then echo "Python 3.10.0"; exit; fi
if [ "$1" = -c ]; then if [[ "$2" == *$(cat lacking)* ]]; then exit 1; fi; exit 0; fi
mkdir -p .venv/bin; cp stand-in .venv/bin/python
"""


def executable(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def checkout(tmp_path):
    """A clone in which results are committed, all files have one age, and Python is the stand-in."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(paths.ROOT / name, tmp_path / name)
    for code in ("tsvlib", COMPENDIUM):
        shutil.copytree(paths.ROOT / code, tmp_path / code, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(paths.published(), tmp_path / "data" / "published")
    for profile in ("mini", "smoke"):
        executable(tmp_path / "data" / profile / "profile.toml", "")
    products = {}
    graph = rules()
    for target, needs in graph.items():
        executable(tmp_path / target, "committed")
        others = {"paper": "page", "experts-first_suite": "first", "experts": "experts"}
        of_notebook = NOTEBOOK.match(needs[0])
        maker = needs[0] if of_notebook else others[target.split("/")[-1].split(".")[0]]
        products.setdefault(maker, []).append(target)
        if of_notebook:
            executable(tmp_path / maker, (paths.ROOT / maker).read_text())
    shutil.rmtree(tmp_path / "data" / "cache")
    lines = [f"{maker} {target}\n" for maker, targets in products.items() for target in targets]
    (tmp_path / "products").write_text("".join(lines))
    executable(tmp_path / "stand-in", STAND_IN)
    executable(tmp_path / "env" / "bin" / "python", STAND_IN)
    for file in tmp_path.rglob("*"):
        os.utime(file, (1e9, 1e9))
    return tmp_path


def make(checkout, *arguments, code=0, venv="env", path=None):
    """Run make and return what it said and which notebooks ran, in order; by default, two run side by side."""
    (checkout / "calls").write_text("")
    # This test may itself run under make, whose flags and variables must not reach the make under test.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    environment["PATH"] = f"{path}:{environment['PATH']}" if path else environment["PATH"]
    command = ["make", "--no-print-directory", f"VENV={venv}", *arguments]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    called = [line.split() for line in (checkout / "calls").read_text().splitlines()]
    return done.stdout + done.stderr, [words[1][10:12] for words in called if words[0] == "run"]


EVERY = sorted({found[1] for needs in rules().values() if (found := NOTEBOOK.match(needs[0]))})
ALL = [name for name in EVERY if name[0] != "6"]
BEYOND = [name for name in EVERY if name[0] == "6"]


def test_a_fresh_clone_recomputes_everything_and_then_nothing(checkout):
    said, ran = make(checkout, "paper")
    assert sorted(ran) == ALL
    assert ran.index("10") < ran.index("13") < ran.index("22")
    assert "Built:" in said
    said, ran = make(checkout, "paper")
    assert ran == []
    assert said.startswith("Nothing to do:")


@pytest.mark.parametrize("jobs", ["-j1", "JOBS=3"])
def test_fewer_or_more_jobs_do_the_same(checkout, jobs):
    assert sorted(make(checkout, jobs, "paper")[1]) == ALL
    assert make(checkout, jobs, "paper")[1] == []


@pytest.mark.parametrize(
    ("lost", "ran"),
    [
        ("figures/mini/scaling.svg", ["22"]),
        ("figures/mini/merge.tex", ["30"]),
        ("data/results/mini/compress.json", ["14", "23", "28", "31", "33", "41"]),
        ("notebooks/00_tour.ipynb", ["00"]),
        ("notebooks/13_merge.ipynb", ["13", "15", "19", "22", "23", "27", "29", "30", "32", "34", "41"]),
        ("notebooks/20_fig_spectra.ipynb", ["20"]),
    ],
)
def test_a_lost_file_is_remade_with_what_follows_from_it(checkout, lost, ran):
    make(checkout, "paper")
    (checkout / lost).unlink()
    assert sorted(make(checkout, "paper")[1]) == ran
    assert make(checkout, "paper")[1] == []


def test_a_changed_module_remakes_what_uses_it(checkout):
    make(checkout, "paper")
    (checkout / COMPENDIUM / "paper" / "tsv.mplstyle").touch()
    assert sorted(make(checkout, "paper")[1]) == [name for name in ALL if name[0] == "2" or name in ("00", "01")]
    (checkout / "tsvlib" / "merging.py").touch()
    assert sorted(make(checkout, "paper")[1]) == [name for name in ALL if name not in ("01", "40")]
    (checkout / COMPENDIUM / "study" / "evaluation.py").touch()
    assert sorted(make(checkout, "paper")[1]) == [name for name in ALL if name not in ("01", "40")]


@pytest.mark.parametrize(
    "changed",
    [
        "notebooks/compendium/paper/items.toml",
        "notebooks/compendium/paper/page.html.j2",
        "figures/mini/claims.csv",
        "notebooks/00_tour.ipynb",
    ],
)
def test_the_page_is_remade_when_something_that_it_shows_has_changed(checkout, changed):
    make(checkout, "paper")
    assert (checkout / "calls").read_text().splitlines()[-1] == "compendium page"
    assert (checkout / "figures" / "mini" / "paper.pdf").read_text() == "new\n"
    (checkout / changed).touch()
    said, ran = make(checkout, "paper")
    assert said.startswith("Built:")
    assert ran == []
    assert "compendium page" in (checkout / "calls").read_text()


@pytest.mark.parametrize("failing", ["13_merge", "10_checkpoints", "20_fig_spectra"])
def test_after_a_failure_it_continues_there(checkout, failing):
    (checkout / "failing").write_text(f"run notebooks/{failing}.py\n")
    said, ran = make(checkout, "paper", code=2)
    assert "the reason" in said
    ran.remove(failing[:2])
    (checkout / "failing").unlink()
    assert sorted([*ran, *make(checkout, "paper")[1]]) == ALL


def test_a_half_moved_group_is_remade(checkout):
    make(checkout, "paper")
    old = (checkout / "data" / "cache" / "mini" / "experts.json").stat().st_mtime - 10
    os.utime(checkout / "data" / "results" / "mini" / "checkpoints.json", (old, old))
    assert "10" in make(checkout, "paper")[1]


def test_damaged_experts_stop_everything(checkout):
    make(checkout, "paper")
    (checkout / "failing").write_text("compendium check-experts\n")
    (checkout / "figures" / "mini" / "scaling.svg").unlink()
    said, ran = make(checkout, "paper", code=2)
    assert "the reason" in said
    assert ran == []


def test_parts_need_only_their_part(checkout):
    computed = [name for name in ALL if name[0] == "1" and name != "17"]
    assert sorted(make(checkout, "figures")[1]) == ["01", *computed, *(name for name in ALL if name[0] == "2")]
    printed = [name for name in ALL if name[0] in "34"]
    assert sorted(make(checkout, "tables")[1]) == ["17", *printed]


def test_all_methods_are_compared_after_the_paper_and_not_with_it(checkout):
    said, ran = make(checkout, "beyond")
    assert sorted(ran) == ["10", *BEYOND]
    assert ran.index("60") < ran.index("61") < ran.index("62")
    assert "Built: all methods" in said
    assert (checkout / "calls").read_text().splitlines()[-1] == "compendium page"
    said, ran = make(checkout, "beyond")
    assert ran == []
    assert said.startswith("Nothing to do:")
    assert "compendium page" not in (checkout / "calls").read_text()
    assert not set(make(checkout, "paper")[1]) & set(BEYOND)
    (checkout / COMPENDIUM / "paper" / "leads.py").touch()
    assert sorted(make(checkout, "beyond")[1]) == ["60", "62", "63"]
    assert make(checkout, "paper")[1] == []


def test_worlds_are_compared_from_the_tables_that_are_there(checkout):
    """Also where a table is older than its notebook, as any is after an edit of the prose, no other notebook runs."""
    for notebook in (checkout / "notebooks").glob("*.py"):
        os.utime(notebook, (1.1e9, 1.1e9))
    make(checkout, "compare")
    assert (checkout / "words").read_text().splitlines() == [
        "-m compendium run notebooks/compare/50_carry_over.py",
        "-m compendium page --profile compare",
        "-m compendium readme",
    ]


def test_times_are_measured_when_nothing_else_runs(checkout):
    ran = make(checkout, "-j4", "paper", "beyond")[1]
    assert sorted(ran) == EVERY
    assert sorted(ran[:-4]) == ALL
    assert ran[-4:-2] == ["60", "61"]


def test_a_class_is_made_after_the_experts_of_the_tour_and_marked_without_them(checkout):
    make(checkout, "course", "CLASS=a class", "COURSE_SEED=5")
    assert (checkout / "calls").read_text().splitlines()[-2:] == ["compendium train", "compendium course"]
    words = (checkout / "words").read_text()
    assert "-m compendium train --profile mini --first-suite\n" in words
    assert words.endswith("-m compendium course --profile mini --class a class --seed 5\n")
    assert make(checkout, "course")[1] == []
    assert (checkout / "words").read_text().endswith("-m compendium course --profile mini\n")
    make(checkout, "grade", "ASSIGNMENT=a0_two_tasks", "CLASS=a class")
    assert (checkout / "calls").read_text().splitlines() == ["compendium grade"]
    assert (checkout / "words").read_text().endswith("-m compendium grade a0_two_tasks --class a class\n")


def build_in(checkout, folder, profile):
    """Let the stand-in make what it makes in another folder."""
    products = [line.split() for line in (checkout / "products").read_text().splitlines()]
    lines = [f"{maker} {folder}/{target}\n".replace("/mini/", f"/{profile}/") for maker, target in products]
    (checkout / "products").write_text("".join(lines))


def elsewhere(checkout, old, new):
    """Let the notebooks of the stand-in write below another root."""
    lines = (line.split() for line in (checkout / "products").read_text().splitlines())
    text = "".join(f"{maker} {re.sub(*old, target)}\n" for maker, target in lines)
    (checkout / "products").write_text(text.replace(*new))


def contents(checkout):
    return {
        file: file.read_text()
        for folder in ("data", "figures", "notebooks")
        for file in (checkout / folder).rglob("*.*")
    }


def test_smoke_writes_into_build_alone(checkout):
    before = contents(checkout)
    elsewhere(checkout, ("^(notebooks/)?", r"build/smoke/\1"), ("/mini/", "/smoke/"))
    text = (checkout / "products").read_text().replace("build/smoke/notebooks/", "build/smoke/notebooks/smoke/")
    (checkout / "products").write_text(text)
    assert sorted(make(checkout, "smoke")[1]) == EVERY
    assert make(checkout, "paper", "PROFILE=smoke")[1] == []
    assert (checkout / "build" / "smoke" / "figures" / "smoke" / "scaling.svg").is_file()
    assert contents(checkout) == before


def test_further_seeds_write_into_build_and_share_the_cache(checkout):
    before = contents(checkout)
    root = "build/mini-further_seeds-2"
    elsewhere(checkout, ("^(?!data/cache)", f"{root}/"), ("experts.json", "experts-further_seeds-2.json"))
    assert sorted(make(checkout, "paper", "FURTHER_SEEDS=2")[1]) == ALL
    assert make(checkout, "paper", "FURTHER_SEEDS=2")[1] == []
    words = (checkout / "words").read_text()
    assert "-m compendium train --profile mini --further-seeds 2\n" in words
    assert "-m compendium run notebooks/13_merge.py -p profile=mini -p further_seeds=2\n" in words
    assert (checkout / root / "figures" / "mini" / "scaling.svg").is_file()
    new = {file.name for file in contents(checkout).keys() - before.keys()}
    assert new == {"experts-first_suite.json", "experts-further_seeds-2.json"}
    assert {file: text for file, text in contents(checkout).items() if file in before} == before


def test_a_part_writes_into_build_and_shares_the_cache(checkout):
    before = contents(checkout)
    part = "+backbones-mini-b32,mini-l14+suites-8"
    elsewhere(checkout, ("^(?!data/cache)", f"build/mini{part}/"), ("experts.json", f"experts{part}.json"))
    elsewhere(checkout, ("^$", ""), ("experts-first_suite.json", f"experts-first_suite{part}.json"))
    chosen = ("BACKBONES=mini-b32, mini-l14", "SUITES=8")
    assert sorted(make(checkout, "paper", *chosen)[1]) == ALL
    assert make(checkout, "paper", *chosen)[1] == []
    make(checkout, "doctor", *chosen)
    words = (checkout / "words").read_text()
    options = "--profile mini --backbones=mini-b32,mini-l14 --suites=8\n"
    assert f"-m compendium train {options}" in words
    assert f"-m compendium doctor {options}" in words
    assert f"-m compendium page {options}" in words
    for name in ("13_merge", "22_fig_scaling", "41_claims"):
        given = "-p profile=mini -p backbones=mini-b32,mini-l14 -p suites=8"
        assert f"-m compendium run notebooks/{name}.py {given}\n" in words
    new = {file.name for file in contents(checkout).keys() - before.keys()}
    assert new == {f"experts-first_suite{part}.json", f"experts{part}.json"}
    assert {file: text for file, text in contents(checkout).items() if file in before} == before


OPTIONS = (
    [],
    ["FURTHER_SEEDS=2"],
    ["OUT=build/other"],
    ["SUITES=2 8,3"],
    ["BACKBONES=a_b,a.b a_b", "SUITES=2", "FURTHER_SEEDS=2"],
)


@pytest.mark.parametrize("profile", ["mini", "smoke"])
@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_make_and_the_library_mean_the_same_places(monkeypatch, profile, options):
    command = ["make", "--print-data-base", "--question", f"PROFILE={profile}", *options, "help"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    said = subprocess.run(command, cwd=paths.ROOT, env=environment, capture_output=True, text=True, check=False).stdout
    for name in ("TSV_OUTPUT", "TSV_CACHE"):
        place = re.search(rf"^{name} := (.+)$", said, re.MULTILINE)
        monkeypatch.setenv(name, place[1] if place else "")
    given = dict(option.split("=") for option in options)
    settings = profiles.load(profile).with_further_seeds(int(given.get("FURTHER_SEEDS", 0)))
    chosen = ((kind, re.findall(r"[^ ,]+", given.get(kind.upper(), ""))) for kind in ("backbones", "suites"))
    part = "".join(f"+{kind}-{','.join(dict.fromkeys(names))}" for kind, names in chosen if names)
    settings = dataclasses.replace(settings, part=part)
    expected = {
        "R": paths.results(profile),
        "F": paths.figures(profile),
        "N": paths.notebooks(profile),
        "EXPERTS": inventory.manifest_file(settings),
        "FIRST_SUITE": inventory.first_suite_file(settings),
    }
    found = {name: re.search(rf"^{name} := (.*)$", said, re.MULTILINE)[1] for name in expected}
    assert {name: (paths.ROOT / place).resolve() for name, place in found.items()} == expected


def test_what_redirects_output_where_make_is_called_does_not_reach_a_build(checkout, monkeypatch):
    for name in ("TSV_OUTPUT", "TSV_CACHE", "TSV_STAGE"):
        monkeypatch.setenv(name, str(checkout / "elsewhere"))
    make(checkout, "experts")
    assert (checkout / "redirected").read_text() == "||\n"
    make(checkout, "experts", "OUT=build/x")
    assert (checkout / "redirected").read_text() == f"||\n{checkout}/build/x|{checkout}/build/x/data/cache|\n"


def test_the_tour_trains_few_experts_and_opens_jupyterlab(checkout):
    make(checkout, "tour", "LAB=--no-browser --port=1")
    calls = [line for line in (checkout / "words").read_text().splitlines() if "check-experts" not in line]
    assert calls == [
        "-m compendium train --profile mini --first-suite",
        "-m jupyterlab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/00_tour.ipynb "
        "--ContentsManager.pre_save_hook=compendium.views.before_saving --no-browser --port=1",
    ]
    make(checkout, "lab")
    assert (checkout / "words").read_text().endswith("=compendium.views.before_saving\n")
    (checkout / "notebooks" / "00_tour.py").touch()
    assert make(checkout, "notebooks/00_tour.ipynb")[1] == ["00"]
    assert not (checkout / "data" / "cache" / "mini" / "experts.json").exists()


def test_verify_rebuilds_and_tells_of_other_code_before_numbers_decide(checkout):
    build_in(checkout, "build/verify", "mini")
    (checkout / "failing").write_text("compendium check-tables\n")
    make(checkout, "verify")
    calls = (checkout / "calls").read_text().splitlines()
    assert calls[-2:] == ["compendium check-tables", "compendium compare"]
    (checkout / "failing").write_text("compendium compare\n")
    make(checkout, "verify", code=2)


@pytest.mark.parametrize(("committed", "verified"), [(True, EVERY), (False, ALL)])
def test_verify_makes_what_is_committed(checkout, committed, verified):
    build_in(checkout, "build/verify", "mini")
    if not committed:
        (checkout / "data" / "results" / "mini" / "beyond.csv").unlink()
    assert sorted(make(checkout, "verify")[1]) == verified


def test_an_unknown_profile_is_one_sentence(checkout):
    said = make(checkout, "paper", "PROFILE=huge", code=2)[0]
    assert 'There is no profile "huge"; choose one of: ' in said
    assert len(said.splitlines()) == 1


def test_an_unknown_engine_is_one_sentence(checkout):
    said = make(checkout, "paper", "ENGINE=ray", code=2)[0]
    assert 'There is no engine "ray"; choose local or dask' in said
    assert len(said.splitlines()) == 1


def test_one_cluster_is_ready_before_anything_runs(checkout):
    make(checkout, "paper", "ENGINE=dask", "JOBS=2", "WORKERS=3", "SLURM=partition=gpu time=02:00:00")
    words = (checkout / "words").read_text().splitlines()
    asked = [line for line in words if line.startswith("-m compendium cluster")]
    assert asked == ["-m compendium cluster --start --workers 3 --slurm partition=gpu --slurm time=02:00:00"]
    assert words.index(asked[0]) < min(
        number for number, line in enumerate(words) if " run " in line or "train" in line
    )


@pytest.mark.parametrize("place", ["tcp://there:8786", "there.json"])
def test_a_scheduler_that_runs_already_is_joined(checkout, place):
    make(checkout, "paper", "ENGINE=dask", f"SCHEDULER={place}")
    assert "-m compendium cluster" in (checkout / "words").read_text().splitlines()
    (checkout / "words").write_text("")
    make(checkout, "worker", "ENGINE=dask", f"SCHEDULER={place}")
    joined = place if "://" in place else f"--scheduler-file {place}"
    said = (checkout / "words").read_text().splitlines()[-1]
    assert said.startswith(f"-m distributed.cli.dask_worker {joined} --nworkers")


@pytest.mark.parametrize(
    ("words", "scheduler"),
    [([], ""), (["ENGINE=dask"], "{}/build/cluster.json"), (["ENGINE=dask", "SCHEDULER=a.json"], "a.json")],
)
def test_what_runs_knows_where_the_scheduler_is(checkout, monkeypatch, words, scheduler):
    monkeypatch.setenv("TSV_SCHEDULER", "of the shell")
    make(checkout, "tables", *words)
    assert set((checkout / "scheduler").read_text().splitlines()) == {scheduler.format(checkout)}


def test_the_real_row_is_shown_with_what_is_said_of_checkpoints(checkout):
    make(checkout, "real-row")
    row = "-m compendium run notebooks/compare/51_real_row.py --show"
    assert (checkout / "words").read_text().splitlines()[-1] == row
    make(checkout, "real-row", "CHECKPOINTS=my folder", "SOURCE=tsv", "GENERATION=old", "SUITES=14")
    said = (checkout / "words").read_text().splitlines()[-1]
    assert re.sub(" +", " ", said) == f"{row} -p n_tasks=14 -p source=tsv -p generation=old -p checkpoints=my folder"


def test_the_table_of_contents_fits_on_three_pages_with_a_line_per_notebook():
    lines = (paths.ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    lines += (paths.ROOT / COMPENDIUM / "beyond.mk").read_text(encoding="utf-8").splitlines()
    for notebook in (paths.ROOT / "notebooks").glob("[0-9]*.py"):
        assert sum(f"chapter,{notebook.stem}," in line for line in lines) == 1, notebook.stem


def test_help_lists_every_target(checkout):
    said = make(checkout)[0]
    names = ("beyond", "cluster", "doctor", "compare")
    parts = (checkout / "Makefile", *(checkout / COMPENDIUM / f"{name}.mk" for name in names))
    makefile = "".join(file.read_text() for file in parts)
    targets = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    for target in [name for line in targets for name in line.split() if not name.startswith("intact-")]:
        assert f"  make {target} " in said


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [("version_info", "Python 3.10.0 is too old; put Python 3.11 or newer first in PATH."), ("venv", "venv module")],
)
def test_an_unusable_python_is_one_sentence(checkout, lacking, sentence):
    executable(checkout / "system" / "python3", PYTHON3)
    (checkout / "lacking").write_text(lacking)
    said = make(checkout, "env", venv=".venv", path=checkout / "system", code=2)[0]
    assert sentence in said.splitlines()[0]
    assert not (checkout / ".venv").exists()


def test_an_interrupted_installation_starts_again(checkout):
    executable(checkout / "system" / "python3", PYTHON3)
    (checkout / "lacking").write_text("nothing")
    (checkout / "failing").write_text("pip install\n")
    make(checkout, "env", venv=".venv", path=checkout / "system", code=2)
    (checkout / ".venv" / "half").touch()
    (checkout / "failing").unlink()
    said = make(checkout, "env", venv=".venv", path=checkout / "system")[0]
    assert said.startswith("Installing the environment into .venv")
    assert not (checkout / ".venv" / "half").exists()
    assert "Installing" not in make(checkout, "env", venv=".venv", path=checkout / "system")[0]
    (checkout / ".venv" / "kept").touch()
    (checkout / "requirements.lock").touch()
    assert "Installing" in make(checkout, "env", venv=".venv", path=checkout / "system")[0]
    assert (checkout / ".venv" / "kept").exists()


def test_a_profile_gets_its_own_packages_from_the_first_lock_that_can_be_had(checkout):
    executable(checkout / "system" / "python3", PYTHON3)
    (checkout / "lacking").write_text("nothing")
    locks = [f"data/smoke/requirements/{number}.lock" for number in (1, 2)]
    for lock in locks:
        executable(checkout / lock, "")

    def installed(code=0):
        (checkout / "words").write_text("")
        said = make(checkout, "env", "PROFILE=smoke", venv=".venv", path=checkout / "system", code=code)[0]
        words = (checkout / "words").read_text().splitlines()
        return said, [line.split()[-1] for line in words if "--require-hashes" in line]

    make(checkout, "env", venv=".venv", path=checkout / "system")
    (checkout / "failing").write_text("".join(f"{lock}\n" for lock in locks))
    said, tried = installed(code=2)
    assert tried == locks
    assert f"Not one of {' '.join(locks)} could be installed" in said
    (checkout / "failing").write_text(f"{locks[0]}\n")
    assert installed()[1] == locks
    (checkout / "failing").unlink()
    assert installed()[1] == []
    (checkout / locks[1]).touch()
    assert installed()[1] == locks[:1]


def test_make_notebooks_carries_prose_into_the_copy_and_keeps_its_outputs(checkout):
    for file in (checkout / "notebooks").glob("*.*"):
        file.unlink()
    for name in ("30_tab_merge.py", "30_tab_merge.ipynb", "jupytext.toml"):
        shutil.copy(paths.ROOT / "notebooks" / name, checkout / "notebooks")
    shutil.copy(paths.ROOT / "README.md", checkout)
    executable(checkout / "figures" / "compare" / "overview.md", "| World |\n\nAll of them.\n")
    # The README's table of methods would read those that stand in for results.
    shutil.rmtree(checkout / "data" / "results")
    source, copy = (checkout / "notebooks" / f"30_tab_merge{suffix}" for suffix in (".py", ".ipynb"))
    before = nbformat.read(copy, as_version=4)
    source.write_text(source.read_text().replace("# # Table 2: merging", "# # Other prose"))
    executable(checkout / "env" / "bin" / "python", f'#!/usr/bin/env bash\nexec {sys.executable} "$@"\n')
    make(checkout, "notebooks")
    after = nbformat.read(copy, as_version=4)
    assert after.cells[0].source.startswith("# Other prose")
    assert after.cells[1:] == before.cells[1:]
    assert [cell.id for cell in after.cells] == [cell.id for cell in before.cells]
    assert after.metadata == before.metadata
    assert "| [30_tab_merge](notebooks/30_tab_merge.ipynb) | Other prose |" in (checkout / "README.md").read_text()
