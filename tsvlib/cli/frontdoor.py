# SPDX-License-Identifier: MIT
"""From files to files in one call each: what ``tsvlib.merge`` and its neighbours do, with the command line's defaults.

Nothing here imports torch before there is work to do, so that help and ``import tsvlib`` are quick.
"""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, SupportsFloat, TypedDict, Unpack

from tsvlib.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from tsvlib.cli.planning import Plan
    from tsvlib.cli.workflows import Inputs, Session
    from tsvlib.compression import Rank

PathLike = str | os.PathLike[str]
STORE_LIMIT = 50.0
"""Gigabytes that a store of decompositions may take."""


class Options(TypedDict, total=False):
    """How to compute, for every call alike.

    ``split_qkv`` takes fused attention projections as three matrices, ``convolutions`` takes kernels as matrices; both
    are off, as in the paper's code. ``device`` is ``auto`` (CUDA if there is a GPU for it, else the CPU), ``cpu`` or
    ``cuda``. ``workers`` is how many matrices to work on at once, by default as many as there are CPUs, or one on a
    GPU; it changes no bit. ``store`` is a folder that keeps decompositions for later calls, of at most ``store_limit``
    gigabytes (50).
    """

    split_qkv: bool
    convolutions: bool
    device: str
    workers: int | None
    store: PathLike | None
    store_limit: float


def plan(base: PathLike, experts: Iterable[PathLike], **options: Unpack[Options]) -> "Plan":
    """Return what merging would take, from the headers of the files alone.

    InputError when they do not fit each other, or there are fewer than two experts.
    """
    from tsvlib.cli import planning
    from tsvlib.taskvectors import check_enough

    inputs, session = inputs_of(base, experts), session_of(**options)
    check_enough(len(inputs.experts))
    return planning.plan(inputs.base, inputs.experts, rule=session.rule, workers=session.workers)


def merge(
    base: PathLike,
    experts: Iterable[PathLike],
    out: PathLike,
    *,
    method: str = "tsv-m",
    alpha: SupportsFloat = 1.0,
    dtype: str = "base",
    **options: Unpack[Options],
) -> str:
    """Write base + alpha * update of a merging method to a safetensors file and return its digest.

    ``dtype`` is that of all weights in the file, by default those of the base; ``UserWarning`` where it cannot hold
    much of the update. Checkpoints are files, indexes or folders of a model hub. InputError for anything that cannot be
    done, before heavy work.
    """
    from tsvlib.cli import workflows

    inputs = inputs_of(base, experts)
    return workflows.merge(inputs, Path(out), method, alpha, session_of(**options), dtype)


def compress(
    base: PathLike,
    expert: PathLike,
    out: PathLike,
    *,
    rank: "Rank | str | float" = "1/8",
    dtype: str = "float32",
    **options: Unpack[Options],
) -> str:
    """Write one expert as a TSV-C file (see ``tsvlib.compression``) and return its digest.

    ``rank`` says how many components to keep of each matrix: a share ("1/8" or 0.1), a number (64), "energy=0.99" or a
    ``tsvlib.Rank``; ``dtype`` is that of singular vectors. InputError as of ``merge``.
    """
    from tsvlib.cli import workflows

    return workflows.compress(inputs_of(base, [expert]), Path(out), str(rank), dtype, session_of(**options))


def expand(
    base: PathLike,
    factors: PathLike,
    out: PathLike,
    *,
    alpha: SupportsFloat = 1.0,
    dtype: str = "base",
    **options: Unpack[Options],
) -> str:
    """Write base + alpha * the task vector of a TSV-C file to a safetensors file and return its digest.

    How matrices are taken is what the TSV-C file says, whatever ``options`` say. InputError as of ``merge``, and for
    factors that are damaged or belong to another base.
    """
    from tsvlib.cli import workflows

    inputs = inputs_of(base, [])
    return workflows.expand(inputs, Path(factors), Path(out), alpha, session_of(**options), dtype)


def interference(
    base: PathLike,
    experts: Iterable[PathLike],
    out: PathLike | None = None,
    *,
    rank: "Rank | str | float" = "1.0",
    **options: Unpack[Options],
) -> "pd.DataFrame":
    """Return singular task interference (Eq. 6) of every task matrix, and write it as CSV if ``out`` is given.

    Columns: ``key``, ``part`` (of a tensor that holds several matrices), ``rows``, ``columns``, ``tasks`` (that
    changed it), ``components`` (of all tasks), ``entrywise`` and ``induced`` (norms of Eq. 6, see ``tsvlib.sti``).
    ``rank`` as in ``compress``. InputError as of ``merge``.
    """
    from tsvlib.cli import measurements

    place = None if out is None else Path(out)
    return measurements.interference(inputs_of(base, experts), place, str(rank), session_of(**options))


def spectra(
    base: PathLike, experts: Iterable[PathLike], out: PathLike | None = None, **options: Unpack[Options]
) -> "pd.DataFrame":
    """Return what the singular values of every task matrix tell, and write it as CSV if ``out`` is given.

    Columns: ``key``, ``part``, ``rows``, ``columns``, ``expert`` (number, in the order given), ``norm``
    (Frobenius), ``largest`` singular value, ``stable_rank`` (norm² / largest²), and how many components hold a share of
    the energy: ``energy_0.5`` and so on. Matrices that an expert did not change have no row. One expert is enough;
    InputError as of ``merge`` otherwise.
    """
    from tsvlib.cli import measurements

    place = None if out is None else Path(out)
    return measurements.spectra(inputs_of(base, experts), place, session_of(**options))


def session_of(
    *,
    split_qkv: bool = False,
    convolutions: bool = False,
    device: str = "auto",
    workers: int | None = None,
    store: PathLike | None = None,
    store_limit: float = STORE_LIMIT,
) -> "Session":
    """Return how to compute, as ``Options`` say it; InputError for what cannot be."""
    from tsvlib import devices
    from tsvlib.cli.workflows import Session
    from tsvlib.store import Spectra
    from tsvlib.taskvectors import MatrixRule

    if not 0 < store_limit < math.inf:
        raise InputError(f"a store cannot be limited to {store_limit:g} GB; choose a size above zero.")
    chosen = devices.choose(device)
    spectra = Spectra(Path(store), int(store_limit * 1e9)) if store else None
    rule = MatrixRule(split_qkv, convolutions)
    return Session(rule, chosen, spectra, devices.default_workers(chosen) if workers is None else workers)


def inputs_of(base: PathLike, experts: Iterable[PathLike], recipe: PathLike | None = None) -> "Inputs":
    """Return the checkpoints of these paths; those that ``recipe``, a file written earlier, names must be as then."""
    from tsvlib.cli.workflows import Inputs

    if isinstance(experts, str | os.PathLike):
        raise InputError(f"{experts}: experts are named in a list, and this is one path; write [{str(experts)!r}].")
    return Inputs(Path(base), [Path(path) for path in experts], Path(recipe) if recipe else None)
