# SPDX-License-Identifier: MIT
"""Sampling errors: how far a number may lie from what other sources of the same kind would have given.

Inputs that show one source (a font, a tile, a chapter) are no independent witnesses, so the bootstrap gives random
weights to the sources, and an input counts as much as its source (Bayesian bootstrap: exponential weights). A source
has one weight in each draw, for every method, seed of fine-tuning, suite, backbone and task that shows it, so a
difference between any two numbers is a paired one. Results are frames whose columns are draws: column 0 is what was
measured, columns 1 to ``DRAWS`` are resamples. Whatever is computed of a column is computed of all, and its standard
error is the standard deviation over the resamples.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64, UInt8
from scipy import stats

from tsvlib.errors import InputError

DRAWS = 1000
SEEDS = range(10)
"""Of the bootstrap: what is shown is of the first, and a verdict must be the same by all."""
FEW = 20
"""With fewer sources in a split, a task shows no error of its own; in pooled means it counts as all do."""
LEVEL = 0.05
POWER = 0.8
"""How often an effect that is called visible would have been seen."""
GRAIN = 2.0**-16
"""Of which weights are multiples, so that their sums are exact in float64, in whatever order they are taken."""
ROUNDING = 1e-9
"""A spread below it is that of floating-point numbers and not of samples."""


def accuracies(
    frame: pd.DataFrame,
    sources: pd.DataFrame,
    by: Sequence[str],
    *,
    split: str = "test",
    seed: int = 0,
    half: int | None = None,
) -> pd.DataFrame:
    """Return the accuracy of every row with ``hits``: a row for each of ``by`` and ``task``, a column for each draw.

    Args:
        frame: rows with ``task``, the columns ``by``, and ``hits``: which inputs of the split were right, as hex of
            packed bits. Rows without hits are left out.
        sources: the result table of that name.
        by: what tells the rows of a task apart.
        split: where the accuracies were measured.
        seed: of the bootstrap.
        half: 0 or 1 to look at the inputs of every second source alone, so that halves share none.

    Raises:
        InputError: hits of a task that ``sources`` does not list, or of another number of inputs.
    """
    measured = frame[frame.hits.fillna("") != ""]
    listed = sources[sources.split == split].set_index("task")
    parts = []
    for task, rows in measured.groupby("task"):
        order, names = _sources(str(task), listed)
        right = _right(str(task), rows.hits, len(order))
        seen = order % 2 == half if half is not None else np.ones(len(order), dtype=bool)
        shares = _shares(right[:, seen], order[seen], np.array([weights(name, seed) for name in names]))
        parts.append(pd.DataFrame(shares, index=pd.MultiIndex.from_frame(rows[[*by, "task"]])))
    return pd.concat(parts) if parts else none([*by, "task"])


def none(levels: Sequence[str]) -> pd.DataFrame:
    """Return a frame of draws without a row, as of what was not run, whose index has these levels."""
    index = pd.MultiIndex.from_tuples([], names=list(levels))
    return pd.DataFrame(index=index, columns=range(DRAWS + 1), dtype=float)


def normalised(measured: pd.DataFrame, experts: pd.DataFrame) -> pd.DataFrame:
    """Return mean normalised accuracies over tasks, draw by draw.

    The index of ``experts`` has some of the levels of ``measured``, ``task`` among them. A draw in which an expert gets
    nothing right leaves its task out.
    """
    tasks = experts.set_axis(pd.MultiIndex.from_frame(experts.index.to_frame()))
    of_each = measured.index.to_frame()[list(experts.index.names)]
    norm = tasks.reindex(pd.MultiIndex.from_frame(of_each)).to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(norm > 0, measured.to_numpy() / norm, np.nan)
    return over_tasks(pd.DataFrame(ratios, index=measured.index))


def over_tasks(measured: pd.DataFrame) -> pd.DataFrame:
    """Return means over tasks, draw by draw."""
    return measured.groupby(level=[level for level in measured.index.names if level != "task"]).mean()


def over_seeds(measured: pd.DataFrame) -> pd.DataFrame:
    """Return means over the seeds of fine-tuning, draw by draw; what has no seeds is returned as it is."""
    others = [level for level in measured.index.names if level != "seed"]
    return measured.groupby(level=others).mean() if "seed" in measured.index.names else measured


def standard_error(drawn: pd.DataFrame) -> pd.Series:
    """Return the standard deviation over the resamples of every row; 0 where nothing was sampled."""
    if drawn.shape[1] == 1:
        return pd.Series(0.0, index=drawn.index)
    spread = drawn.iloc[:, 1:].std(axis=1)
    return spread.where(spread > ROUNDING, 0.0)


def few(sources: pd.DataFrame, split: str = "test") -> list[str]:
    """Return the tasks with fewer than ``FEW`` sources in a split, in alphabetical order."""
    rows = sources[(sources.split == split) & (sources.sources < FEW)]
    return sorted(rows.task)


def chances(margins: pd.Series, errors: pd.Series, *, strict: bool = False) -> pd.Series:
    """Return one-sided p-values, by the normal distribution, of margins that lie above zero by mere sampling.

    Where the error is 0 the margin is exact: 0 where it is positive (or zero, unless ``strict``), and 1 otherwise.
    """
    exact = (margins > 0) if strict else (margins >= 0)
    sampled = stats.norm.sf(margins / errors.where(errors > 0, 1.0))
    return pd.Series(sampled, index=margins.index).where(errors > 0, 1.0 - exact)


def holm(values: pd.Series) -> pd.Series:
    """Tell which p-values are significant at ``LEVEL`` after Holm's correction for their number.

    >>> holm(pd.Series([0.01, 0.04, 0.03])).tolist()
    [True, False, False]
    """
    rising = values.sort_values(kind="stable")
    limits = LEVEL / np.arange(len(rising), 0, -1)
    return (rising <= limits).cummin().reindex(values.index)


def visible(errors: pd.Series) -> float:
    """Return the smallest effect that would have been seen in every case, in ``POWER`` of all samples.

    It is z(1 - 0.05 / cases) + z(0.8) standard errors, of the case with the largest.
    """
    return float((stats.norm.isf(LEVEL / len(errors)) + stats.norm.ppf(POWER)) * errors.max())


@lru_cache(maxsize=2**13)
def weights(name: str, seed: int) -> Float64[np.ndarray, " draws"]:
    """Return the weight of a source in each draw: 1 in the first, exponential in the others.

    ``name`` is the hex text by which ``sources`` lists it. The weights depend on nothing but the arguments.
    """
    drawn = np.random.default_rng([seed, int(name, 16)]).standard_exponential(DRAWS)
    return np.concatenate([[1.0], np.ceil(drawn / GRAIN) * GRAIN])


def _shares(
    right: UInt8[np.ndarray, "rows inputs"],
    order: Int64[np.ndarray, " inputs"],
    drawn: Float64[np.ndarray, "sources draws"],
) -> Float64[np.ndarray, "rows draws"]:
    """Return the share of right inputs of every row and draw.

    With such weights a mean over n sources has (n - 1) / (n + 1) of the variance that sampling gives it. Deviations are
    stretched by what is missing, so that a few sources do not pass for exact.
    """
    counts = np.bincount(order, minlength=len(drawn)).astype(np.float64)
    belongs = np.eye(len(drawn))[order]
    shares = (right @ belongs @ drawn) / (counts @ drawn)
    n = int((counts > 0).sum())
    stretch = np.sqrt((n + 1) / (n - 1)) if n > 1 else 1.0
    found: Float64[np.ndarray, "rows draws"] = np.clip(shares[:, :1] + stretch * (shares - shares[:, :1]), 0.0, 1.0)
    return found


def _sources(task: str, listed: pd.DataFrame) -> tuple[Int64[np.ndarray, " inputs"], list[str]]:
    """Return the number of each input's source, and the names of the sources."""
    if task not in listed.index:
        raise InputError(f"sources: there is no row for task {task!r}; run notebook 10_checkpoints again.")
    row = listed.loc[task]
    return np.array(str(row["order"]).split(), dtype=np.int64), str(row["names"]).split()


def _right(task: str, hits: pd.Series, n_inputs: int) -> UInt8[np.ndarray, "rows inputs"]:
    packed = np.array([list(bytes.fromhex(text)) for text in hits], dtype=np.uint8)
    if packed.shape[1] != -(-n_inputs // 8):
        raise InputError(f"task {task!r}: its hits are not of {n_inputs} inputs, as sources are; compute both again.")
    return np.unpackbits(packed, axis=1, count=n_inputs)
