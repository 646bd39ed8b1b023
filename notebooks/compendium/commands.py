# SPDX-License-Identifier: MIT
"""What ``python -m compendium`` does for make and for people: run a notebook, train, compare, write the page.

Each command imports what it needs when it is called, because make starts many of them.
"""

import logging
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click

from compendium.terminal import tell
from tsvlib.cli import exits

PROGRAM = "python -m compendium"
WIDEST = 120
"""Columns of a table, however wide the terminal is."""

_PATH = click.Path(path_type=Path)
_PROFILE = click.option("--profile", default="mini", help="Which world at which size.")
_BACKBONES = click.option("--backbones", default="", help="Only these of its backbones, with commas between them.")
_CLASS = click.option("--class", "folder", type=_PATH, default=Path("build/course"), help="The folder of a class.")
_SUITES = click.option("--suites", default="", help="Only suites of so many tasks, with commas between the numbers.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status (see ``tsvlib.cli.exits``)."""
    return exits.run(cli, PROGRAM, arguments, "the same command finishes the work.", tell)


@click.group(context_settings={"show_default": True, "max_content_width": 100, "help_option_names": ["-h", "--help"]})
def cli() -> None:
    """The executable paper, step by step; `make` calls these in order."""


@cli.command()
@click.argument("notebook", type=_PATH)
@click.option("-p", "parameters", metavar="NAME=VALUE", multiple=True, help="A parameter other than in the notebook.")
@click.option("--show", is_flag=True, help="Say at the end what its cells have printed and shown.")
def run(notebook: Path, parameters: tuple[str, ...], show: bool) -> int:
    """Run one notebook, such as notebooks/13_merge.py: all or nothing."""
    from compendium import paths, runner

    if strays := [text for text in parameters if "=" not in text]:
        raise click.UsageError(f"-p {strays[0]}: write a parameter as NAME=VALUE.")
    started = time.monotonic()
    runner.use_private_folders()
    tell(" ".join((f"{notebook.stem}: running", *parameters)))
    try:
        copy = runner.run(notebook, dict(text.split("=", 1) for text in parameters))
    except runner.CommandError as error:
        raise click.UsageError(str(error)) from error
    except runner.NotebookError as error:
        tell(str(error))
        return 1
    except KeyboardInterrupt as stop:
        stop.add_note(notebook.stem)
        # The event loop would report that the kernel, which has just been stopped, is dead.
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)
        raise
    runner.record(notebook, parameters, time.monotonic() - started)
    # Whoever changed a parameter looks for the result where the committed one is.
    where = "" if copy.parent == paths.ROOT / "notebooks" else f"; the executed copy is {runner.shown(copy)}"
    tell(f"{notebook.stem}: done in {time.monotonic() - started:.0f} s{where}")
    if show:
        _say(runner.printed(copy))
    return 0


@cli.command()
@_PROFILE
@_BACKBONES
@_SUITES
@click.option("--further-seeds", type=click.IntRange(min=0), default=0, help="So many seeds more for every backbone.")
@click.option("--first-suite", is_flag=True, help="Only what the tour needs.")
@click.option("--then-all", is_flag=True, help="With --first-suite: not even these unless the others can follow.")
def train(profile: str, backbones: str, suites: str, further_seeds: int, first_suite: bool, then_all: bool) -> None:
    """Train the experts that are missing or damaged, unless something is in the way of that, as `doctor` tells."""
    from compendium import doctor, profiles
    from compendium.worlds import experts

    wanted = profiles.load(profile, backbones, suites).with_further_seeds(further_seeds)
    doctor.check(wanted.first_suite() if first_suite and not then_all else wanted)
    few, every = len(experts.all_of(wanted.first_suite())), len(experts.all_of(wanted))
    tell(f"{profile}: the tour needs {few} of {every} experts, which come first.")
    experts.train_first_suite(wanted)
    if not first_suite:
        experts.train_all(wanted)


@cli.command()
@_PROFILE
@_BACKBONES
@_SUITES
def doctor(profile: str, backbones: str, suites: str) -> int:
    """Tell in seconds what a whole run needs and whether it is there; the last line says what to do first."""
    from compendium import doctor, profiles

    report = doctor.examine(profiles.load(profile, backbones, suites))
    _say(report.table(min(shutil.get_terminal_size().columns, WIDEST)))
    _say(f"\n{report.advice()}")
    return 1 if report.in_the_way else 0


@cli.command()
@_PROFILE
@_BACKBONES
@_SUITES
@click.option("--what", type=click.Choice(["checkpoints", "images", "all"]), default="all", help="Only these.")
def fetch(profile: str, backbones: str, suites: str, what: Literal["checkpoints", "images", "all"]) -> None:
    """Download what a run needs, is missing and can be had, after saying how much that is and where it goes."""
    from compendium import profiles
    from compendium.worlds import fetching

    fetching.fetch(profiles.load(profile, backbones, suites), what)


@cli.command("check-experts")
@_PROFILE
def check_experts(profile: str) -> None:
    """Compare the experts' files with their manifest."""
    from compendium import profiles
    from compendium.worlds import inventory

    inventory.check(profiles.load(profile))


@cli.command()
@click.option("--start", is_flag=True, help="Start one, which the file TSV_SCHEDULER names, when none answers.")
@click.option("--workers", type=click.IntRange(min=1), help="As many as CPUs; with --slurm, jobs at most.")
@click.option("--slurm", "directives", metavar="NAME=VALUE", multiple=True, help="A directive, such as time=04:00:00.")
@click.option("--job-script", is_flag=True, help="Only show what SLURM would be given for a worker.")
@click.option("--serve-for", "owner", metavar="PID", type=int, help="Be the cluster, at least until that process ends.")
def cluster(start: bool, workers: int | None, directives: tuple[str, ...], job_script: bool, owner: int | None) -> None:
    """See to it that the Dask cluster in TSV_SCHEDULER answers (`make ENGINE=dask`)."""
    from compendium import cluster

    if strays := [text for text in directives if "=" not in text]:
        raise click.UsageError(f"--slurm {strays[0]}: write a directive as NAME=VALUE.")
    jobs, count = dict(text.split("=", 1) for text in directives), workers or os.cpu_count() or 1
    if job_script:
        _say(cluster.job_script(jobs))
    elif owner is not None:
        cluster.serve(count, jobs, owner)
    else:
        cluster.ensure(count, jobs, start=start)


@cli.command()
@_PROFILE
@click.option("--backbone", "backbones", multiple=True, help="Only this one; may be repeated.")
def pretrain(profile: str, backbones: tuple[str, ...]) -> None:
    """Train the shipped base models anew (hours)."""
    from compendium import profiles
    from compendium.worlds.mini import pretraining

    names = [backbone.name for backbone in profiles.load(profile).backbones]
    pretraining.pretrain(profile, list(backbones) or names, pretraining.Pretraining())


@cli.command()
@click.argument("entries", nargs=-1, required=True, type=_PATH)
@click.option("--seed", "seeds", multiple=True, required=True, type=click.IntRange(min=0), help="May be repeated.")
@click.option("--methods", type=click.IntRange(min=0), default=0, help="Show the functions of so many first places.")
@_PROFILE
def leaderboard(entries: tuple[Path, ...], seeds: tuple[int, ...], methods: int, profile: str) -> None:
    """Rank ENTRIES of assignment 4 by experts of seeds that students have not seen, which are trained if need be."""
    from compendium import doctor, profiles
    from compendium.course import confinement, leaderboard
    from compendium.study import runs
    from compendium.worlds import experts

    known = profiles.load(profile)
    unseen = leaderboard.hidden(known, seeds)
    for each in (known.first_suite(), unseen):
        doctor.check(each)
    if missing := confinement.walls().missing:
        tell(missing)
    experts.train_first_suite(known)
    experts.train_all(unseen)
    ranking = leaderboard.rank(entries, next(runs.of(known.first_suite())), unseen)
    _say("\n".join(leaderboard.told(ranking, methods)))


@cli.command()
@_PROFILE
@_BACKBONES
@_SUITES
def page(profile: str, backbones: str, suites: str) -> None:
    """Write all figures, tables and notebooks on one page, as HTML and as PDF; `compare` is that of all worlds."""
    from compendium.paper import page

    page.build(profile, backbones, suites)


@cli.command()
def prose() -> None:
    """Bring changed prose into executed copies without running them."""
    from compendium import paths, prose

    for copy in prose.bring():
        name = copy.relative_to(paths.ROOT)
        click.echo(f"{name} ran other code than its source holds now and was left; make paper or make beyond runs it.")


@cli.command()
def readme() -> None:
    """Write the README's tables of notebooks and worlds anew."""
    from compendium import paths
    from compendium.paper import readme, results

    place = paths.ROOT / "README.md"
    results.write_text(place, readme.renewed(place.read_text(encoding="utf-8")))


@cli.command()
@_CLASS
@_PROFILE
@click.option("--seed", type=click.IntRange(1, 2**31 - 1), help="The class's own, for its hidden tests.")
def course(folder: Path, profile: str, seed: int | None) -> None:
    """Make assignments for students, solutions, and the guide for instructors with an example of feedback."""
    from compendium import runner
    from compendium.course import building

    runner.use_private_folders()
    building.build(folder, seed, profile, tell)


@cli.command()
@click.argument("assignment")
@_CLASS
@click.option("--student", "students", multiple=True, help="Only this one; may be repeated.")
@click.option("--at-once", type=click.IntRange(min=1), default=2, help="So many submissions side by side.")
@click.option("--cell-seconds", type=click.IntRange(min=1), default=30, help="What a cell may take.")
@click.option("--seconds", type=click.IntRange(min=1), default=300, help="What a submission may take.")
@click.option("--memory", type=click.IntRange(min=1), default=2, help="GB, beside what Python takes with torch.")
def grade(assignment: str, folder: Path, students: tuple[str, ...], at_once: int, memory: int, **seconds: int) -> int:
    """Mark what students handed in, each apart from the others, without network and within limits."""
    from compendium import runner, terminal
    from compendium.course import grading
    from compendium.course.classroom import Classroom
    from compendium.course.supervision import Limits

    runner.use_private_folders()
    classroom, limits = Classroom(folder), Limits(memory=memory * 2**30, **seconds)
    try:
        marked = grading.grade(classroom, assignment, students, limits=limits, at_once=at_once, tell=tell)
    except KeyboardInterrupt as stop:
        stop.add_note(assignment)
        raise
    _say(terminal.table(grading.rows(classroom, assignment, marked), min(shutil.get_terminal_size().columns, WIDEST)))
    _say(f"\nFeedback lies in {classroom.folder / 'feedback'}, and all marks are in {classroom.folder / 'grades.csv'}.")
    return 1 if any(each.trouble for each in marked) else 0


@cli.command()
@click.argument("left", type=_PATH)
@click.argument("right", type=_PATH)
def compare(left: Path, right: Path) -> int:
    """Tell in which numbers the tables in RIGHT differ from those in LEFT, which are to be trusted."""
    from compendium.paper import verify

    differences = verify.compare(left, right)
    if differences.empty:
        _say(f"{right} agrees with {left} within the tolerances of the sidecars.")
        return 0
    _say(differences.to_markdown(index=False))
    _say(f"{len(differences)} differences; to accept the new tables, copy them over {left} and commit.")
    return 1


@cli.command("check-tables")
@click.argument("folder", type=_PATH)
def check_tables(folder: Path) -> int:
    """Tell which tables in FOLDER this checkout would compute from other code, parameters or inputs."""
    from compendium.paper import verify

    tables = verify.check(folder)
    if not (differing := verify.told(tables)):
        _say(f"{folder}: code, parameters and inputs of all {len(tables)} tables are those of this checkout.")
        return 0
    remedy = "to compute them again, delete their sidecars and run `make paper`"
    _say("\n".join(differing))
    _say(f"{folder}: this checkout differs for {len(differing)} of {len(tables)} tables in what is named; {remedy}.")
    return 1


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
