# SPDX-License-Identifier: MIT
"""The paper's own numbers, read from ``data/published``; ``data/published/README.md`` tells where each comes from."""

from io import BytesIO

import pandas as pd

from compendium import paths, provenance
from tsvlib.errors import InputError

NAMES = (
    "ablation",
    "alpha",
    "alpha_subsets",
    "claims",
    "compression",
    "data_sets",
    "experts",
    "fusion_bench",
    "low_rank",
    "merging",
    "per_dataset",
    "requirements",
    "successor_requirements",
    "successors",
    "test_time",
)


def load(name: str) -> pd.DataFrame:
    """Return one table of published numbers: ``percent`` as printed in the paper, ``accuracy`` as a share of one.

    Raises:
        InputError: no such table, or it cannot be read.
    """
    if name not in NAMES:
        raise InputError(f"there are no published numbers `{name}`; choose one of {', '.join(NAMES)}.")
    file = paths.published() / f"{name}.csv"
    try:
        return pd.read_csv(BytesIO(provenance.read(file)))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({error}); restore it from git.") from error
