# SPDX-License-Identifier: MIT
"""What ``python -m compendium`` does for make and for people: run a notebook, train, compare, write the page.

Each command imports what it needs when it is called, because make starts many of them.
"""

import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from compendium.terminal import tell
from tsvlib.cli import exits

PROGRAM = "python -m compendium"
_PATH = click.Path(path_type=Path)
_PROFILE = click.option("--profile", default="mini", help="Which world at which size.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status (see ``tsvlib.cli.exits``)."""
    return exits.run(cli, PROGRAM, arguments, "the same command continues where it was.", tell)


@click.group(context_settings={"show_default": True, "max_content_width": 100, "help_option_names": ["-h", "--help"]})
def cli() -> None:
    """The executable paper, step by step; `make` calls these in order."""


@cli.command()
@click.argument("notebook", type=_PATH)
@click.option("-p", "parameters", metavar="NAME=VALUE", multiple=True, help="A parameter other than in the notebook.")
def run(notebook: Path, parameters: tuple[str, ...]) -> int:
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
    return 0


@cli.command()
@_PROFILE
@click.option("--further-seeds", type=click.IntRange(min=0), default=0, help="So many seeds more for every backbone.")
@click.option("--first-suite", is_flag=True, help="Only what the tour needs.")
def train(profile: str, further_seeds: int, first_suite: bool) -> None:
    """Train the experts that are missing or damaged."""
    from compendium import profiles
    from compendium.worlds import experts

    wanted = profiles.load(profile).with_further_seeds(further_seeds)
    few, every = len(experts.all_of(wanted.first_suite())), len(experts.all_of(wanted))
    tell(f"{profile}: the tour needs {few} of {every} experts, which come first.")
    experts.train_first_suite(wanted)
    if not first_suite:
        experts.train_all(wanted)


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
@_PROFILE
def page(profile: str) -> None:
    """Write all figures, tables and notebooks on one page, as HTML and as PDF; `compare` is that of all worlds."""
    from compendium.paper import page

    page.build(profile)


@cli.command()
def prose() -> None:
    """Bring changed prose into executed copies without running them."""
    from compendium import prose

    prose.bring()


@cli.command()
def readme() -> None:
    """Write the README's tables of notebooks and worlds anew."""
    from compendium import paths
    from compendium.paper import readme, results

    place = paths.ROOT / "README.md"
    results.write_text(place, readme.renewed(place.read_text(encoding="utf-8")))


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
