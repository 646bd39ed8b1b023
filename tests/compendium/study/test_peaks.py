# SPDX-License-Identifier: MIT
"""What studies need of memory does not depend on how many experts there are, which would not fit in together."""

import os
import subprocess
import sys
from pathlib import Path

import checkout
import pytest

from compendium import paths

pytestmark = pytest.mark.slow

LIMIT = 7
"""Models in memory at once beside Python and PyTorch, of which the base is one: an expert or update that is read or
measured by each of two workers, and what it is made from."""

MEASURED = """
import resource, sys
import large
from compendium.study import evaluation, runs, studies
from tsvlib.compression import Rank
from tsvlib.methods import named
job, n_tasks = sys.argv[1], int(sys.argv[2])
runs.HELD = 0  # the margin in which task vectors are kept
evaluation.CANDIDATES = int(2**22 * large.MEGABYTES)  # two models at once, each counted twice
run = next(runs.of(large.profile(n_tasks)))
tasks = run.tasks(n_tasks)
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if job == "merging":
    studies.merge(run, n_tasks, named("tsv_m"))
elif job == "compressing":
    studies.compressed(run, n_tasks)
elif job == "low-rank sweep":
    for task in tasks:
        run.truncated(task, [Rank(fraction=fraction) for fraction in run.profile.fractions])
elif job == "evaluation":
    run.individual("test", tasks)
    run.evaluator.accuracies(run.evaluator.base, tasks, "test")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(peak / 1024, (peak - start) / 1024 / large.MEGABYTES)
"""

JOBS = ("merging", "compressing", "low-rank sweep", "evaluation")


def measured(output: Path, job: str, n_tasks: int) -> tuple[float, float]:
    """Return the peak of a job in megabytes, and by how many models it exceeds what was there before."""
    peak, models = python(output, MEASURED, job, str(n_tasks)).split()
    return float(peak), float(models)


def python(output: Path, code: str, *words: str) -> str:
    """Return what code prints that finds the world and writes below ``output``."""
    places = os.pathsep.join([checkout.roots(), str(paths.ROOT / "tests" / "worlds")])
    # What is freed goes back to the system at once, whatever was allocated before.
    more = {"TSV_OUTPUT": str(output), "PYTHONPATH": places, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    return subprocess.check_output([sys.executable, "-c", code, *words], env=os.environ | more, text=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("large")
    python(output, "import large; large.build(large.profile(20)).write()")
    return output


@pytest.mark.parametrize("job", JOBS)
def test_the_peak_with_twenty_experts_is_that_with_five(job: str, files: Path) -> None:
    few, models_of_few = measured(files, job, 5)
    many, models_of_many = measured(files, job, 20)
    assert many < 1.1 * few
    assert max(models_of_few, models_of_many) < LIMIT
