# SPDX-License-Identifier: MIT
"""From files to files in one call each: what ``tsvlib.merge`` and its neighbours do, with the command line's defaults.

Nothing here imports torch before there is work to do, so that help and ``import tsvlib`` are quick.
"""

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, SupportsFloat, TypedDict, Unpack, overload

from tsvlib.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from tsvlib.cli.planning import Plan
    from tsvlib.cli.recipes import Recipe
    from tsvlib.cli.sessions import Session
    from tsvlib.cli.sums import Alphas
    from tsvlib.cli.workflows import Inputs
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


def plan(
    base: PathLike,
    experts: Iterable[PathLike],
    out: PathLike | None = None,
    *,
    method: str = "tsv-m",
    then: Iterable[str] = (),
    alpha: "Alphas" = 1.0,
    dtype: str = "base",
    leave_out: Iterable[str] = (),
    weights: Iterable[float] = (),
    **options: Unpack[Options],
) -> "Plan":
    """Return what ``merge`` with the same arguments would do and take, from the headers of the files alone.

    ``out`` is looked at if it is given, and else the working folder. Tensors that may be tied are read. InputError as
    of ``merge``, except for values.
    """
    from tsvlib.cli import sums, workflows

    inputs, alphas = inputs_of(base, experts, leave_out=leave_out, weights=weights), sums.numbers(alpha)
    return workflows.plan(inputs, out, method, alphas, session_of(**options), dtype, tuple(then))


@overload
def merge(
    base: PathLike,
    experts: Iterable[PathLike],
    out: PathLike,
    *,
    method: str = ...,
    then: Iterable[str] = ...,
    alpha: SupportsFloat = ...,
    dtype: str = ...,
    leave_out: Iterable[str] = ...,
    weights: Iterable[float] = ...,
    as_adapter: int | None = ...,
    **options: Unpack[Options],
) -> str: ...


@overload
def merge(
    base: PathLike,
    experts: Iterable[PathLike],
    out: PathLike,
    *,
    method: str = ...,
    then: Iterable[str] = ...,
    alpha: Sequence[SupportsFloat],
    dtype: str = ...,
    leave_out: Iterable[str] = ...,
    weights: Iterable[float] = ...,
    as_adapter: int | None = ...,
    **options: Unpack[Options],
) -> dict[Path, str]: ...


def merge(
    base: PathLike,
    experts: Iterable[PathLike],
    out: PathLike,
    *,
    method: str = "tsv-m",
    then: Iterable[str] = (),
    alpha: "Alphas" = 1.0,
    dtype: str = "base",
    leave_out: Iterable[str] = (),
    weights: Iterable[float] = (),
    as_adapter: int | None = None,
    **options: Unpack[Options],
) -> str | dict[Path, str]:
    """Write base + alpha * update of a merging method to a safetensors file, or a folder, and return its digest.

    An ``out`` that ends in a slash is a folder, new or empty, for shards, index and configuration like the base's.
    Processes of ``then`` change the update, one after the other. ``dtype`` is that of all weights in the file, by
    default those of the base; ``UserWarning`` where it cannot hold much of the update. Of a list of alphas, each has a
    place beside ``out`` with alpha in its name, made in one pass, and what is returned is the digest of each. Changes
    of each expert count times its weight, 1 by default. ``leave_out`` names tensors, or parts of the model, that stay
    as in the base, with ``*`` for any text. Checkpoints are files, indexes or folders of a model hub, and
    experts may be LoRA adapters of the base, as PEFT writes them. With ``as_adapter``, a rank, all of them are, and
    ``out`` becomes a folder with one adapter of that rank. InputError for anything that cannot be done.
    """
    from tsvlib.cli import adapting, sums, workflows

    inputs, alphas = inputs_of(base, experts, leave_out=leave_out, weights=weights), sums.numbers(alpha)
    how = method, alphas, session_of(**options), dtype, tuple(then)
    if as_adapter is not None:
        made = adapting.merge(inputs, Path(out), as_adapter, *how)
    else:
        made = workflows.merge(inputs, out, *how)
    return _one_or_all(made, alpha)


def compress(
    base: PathLike,
    expert: PathLike,
    out: PathLike,
    *,
    rank: "Rank | str | float" = "1/8",
    dtype: str = "float32",
    leave_out: Iterable[str] = (),
    **options: Unpack[Options],
) -> str:
    """Write one expert as a TSV-C file (see ``tsvlib.compression``) and return its digest.

    ``rank`` says how many components to keep of each matrix: a share ("1/8" or 0.1), a number (64), "energy=0.99" or a
    ``tsvlib.Rank``; ``dtype`` is that of singular vectors. ``leave_out`` and InputError as of ``merge``.
    """
    from tsvlib.cli import workflows

    inputs = inputs_of(base, [expert], leave_out=leave_out)
    return workflows.compress(inputs, Path(out), str(rank), dtype, session_of(**options))


@overload
def expand(
    base: PathLike,
    factors: PathLike,
    out: PathLike,
    *,
    alpha: SupportsFloat = ...,
    dtype: str = ...,
    **options: Unpack[Options],
) -> str: ...


@overload
def expand(
    base: PathLike,
    factors: PathLike,
    out: PathLike,
    *,
    alpha: Sequence[SupportsFloat],
    dtype: str = ...,
    **options: Unpack[Options],
) -> dict[Path, str]: ...


def expand(
    base: PathLike,
    factors: PathLike,
    out: PathLike,
    *,
    alpha: "Alphas" = 1.0,
    dtype: str = "base",
    **options: Unpack[Options],
) -> str | dict[Path, str]:
    """Write base + alpha * the task vector of a TSV-C file to a safetensors file, or a folder, and return its digest.

    How matrices are taken is what the TSV-C file says, whatever ``options`` say. Several alphas and InputError as of
    ``merge``; InputError for factors that are damaged or belong to another base, too.
    """
    from tsvlib.cli import sums, workflows

    inputs = inputs_of(base, [])
    made = workflows.expand(inputs, Path(factors), out, sums.numbers(alpha), session_of(**options), dtype)
    return _one_or_all(made, alpha)


def interference(
    base: PathLike,
    experts: Iterable[PathLike],
    out: PathLike | None = None,
    *,
    rank: "Rank | str | float" = "1.0",
    leave_out: Iterable[str] = (),
    **options: Unpack[Options],
) -> "pd.DataFrame":
    """Return singular task interference (Eq. 6) of every task matrix, and write it as CSV if ``out`` is given.

    Columns: ``key``, ``part`` (of a tensor that holds several matrices), ``rows``, ``columns``, ``tasks`` (that
    changed it), ``components`` (of all tasks), ``entrywise`` and ``induced`` (norms of Eq. 6, see ``tsvlib.sti``).
    ``rank`` as in ``compress``; an adapter has no more components than its own rank. ``leave_out`` and InputError as of
    ``merge``.
    """
    from tsvlib.cli import measurements

    place, inputs = None if out is None else Path(out), inputs_of(base, experts, leave_out=leave_out)
    return measurements.interference(inputs, place, str(rank), session_of(**options))


def spectra(
    base: PathLike,
    experts: Iterable[PathLike],
    out: PathLike | None = None,
    *,
    leave_out: Iterable[str] = (),
    **options: Unpack[Options],
) -> "pd.DataFrame":
    """Return what the singular values of every task matrix tell, and write it as CSV if ``out`` is given.

    Columns: ``key``, ``part``, ``rows``, ``columns``, ``expert`` (number, in the order given), ``norm``
    (Frobenius), ``largest`` singular value, ``stable_rank`` (norm² / largest²), and how many components hold a share of
    the energy: ``energy_0.5`` and so on. Matrices that an expert did not change have no row. One expert is enough;
    ``leave_out`` and InputError as of ``merge`` otherwise.
    """
    from tsvlib.cli import measurements

    place, inputs = None if out is None else Path(out), inputs_of(base, experts, leave_out=leave_out)
    return measurements.spectra(inputs, place, session_of(**options))


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
    from tsvlib.cli.sessions import Session
    from tsvlib.store import Spectra
    from tsvlib.taskvectors import MatrixRule

    if not 0 < store_limit < math.inf:
        raise InputError(f"a store cannot be limited to {store_limit:g} GB; choose a size above zero.")
    chosen = devices.choose(device)
    spectra = Spectra(Path(store), int(store_limit * 1e9)) if store else None
    rule = MatrixRule(split_qkv, convolutions)
    return Session(rule, chosen, spectra, devices.default_workers(chosen) if workers is None else workers)


def inputs_of(
    base: PathLike,
    experts: Iterable[PathLike],
    followed: "Recipe | None" = None,
    *,
    leave_out: Iterable[str] = (),
    weights: Iterable[float] = (),
) -> "Inputs":
    """Return the checkpoints of these paths; those that ``followed``, a recipe, names are called as it calls them."""
    from tsvlib.cli.workflows import Inputs

    if isinstance(experts, str | os.PathLike):
        raise InputError(f"{experts}: experts are named in a list, and this is one path; write [{str(experts)!r}].")
    if isinstance(leave_out, str):
        raise InputError(f"what to leave out is named in a list, and this is one text; write [{leave_out!r}].")
    named = [Path(path) for path in experts]
    return Inputs(Path(base), named, followed, leave_out=tuple(leave_out), weights=tuple(weights))


def _one_or_all(made: dict[Path, str], alpha: "Alphas") -> str | dict[Path, str]:
    """Return the digest of one file as itself where one was asked for."""
    try:
        iter(alpha)  # type: ignore[arg-type]
    except TypeError:
        return next(iter(made.values()))
    return made
