# SPDX-License-Identifier: MIT
"""One row of the paper's Table 2 from published checkpoints, where these are."""

from collections.abc import Sequence

from compendium.profiles import Profile
from compendium.study import optimism, runs, studies
from compendium.study.runs import Row
from compendium.worlds import experts
from compendium.worlds.protocol import Need, world_of
from tsvlib.methods import UPDATES


def lacking(profile: Profile) -> list[Need]:
    """Return all that a row needs and that is not there, or not as it should be."""
    return [need for need in world_of(profile).needs() if need.finding.is_in_the_way]


def told(lacks: Sequence[Need]) -> str:
    """Return a line for each thing that keeps a row from being run; folders of this machine are not named."""
    return "\n".join(
        f"not run: {' '.join(filter(None, (need.kind, need.name, need.of and f'of {need.of}')))} is "
        f"{'missing' if need.finding.state == 'missing' else 'not as it should be'}"
        for need in lacks
    )


def measured(profile: Profile) -> tuple[list[Row], str]:
    """Return the rows of the references, of task arithmetic and of TSV-M for the suite of a part of a profile.

    Beside them stands what is to be told of experts that do much better on test than on validation inputs. The part has
    one backbone, one seed and one suite.
    """
    experts.train_all(profile)
    (run,) = runs.of(profile)
    (n_tasks,) = profile.suites
    rows = studies.references(run, n_tasks) + studies.merge(run, n_tasks, UPDATES["task_arithmetic"])
    rows += studies.tsv_merge(run, n_tasks)
    return rows, optimism.told(optimism.ahead_on_test(run, run.tasks(n_tasks)))
