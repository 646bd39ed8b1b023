# SPDX-License-Identifier: MIT
"""All ways to merge by their names, one family per file; each row says of what kind it is.

To add one, write a function from a :class:`tsvlib.layers.Layer` to its update, and a row below. One that must see the
whole suite before it can merge a layer, say to find a threshold, is a function from the suite to such a function; its
row goes without ``layerwise``. In place of that ``Cored`` is where results turn as their matrices do, see ``core``.
A process is a function from a suite and what merges its layers to what merges them and changes the result. What is
measured on inputs comes from whoever has these; its row makes a method of it.
A row declares what its method requires: whoever has an alpha or a lambda to choose needs labelled inputs.
"""

from tsvlib.errors import InputError
from tsvlib.methods import (
    adamerging,
    averages,
    boosting,
    breadcrumbs,
    calibration,
    cart,
    closed_form,
    dare,
    dc,
    emr,
    esm,
    fisher,
    isotropic,
    isotropic_cts,
    knots,
    lines,
    masks,
    ranks,
    regmean,
    star,
    ties,
    tsv,
    wudi,
)
from tsvlib.methods.base import (
    ADAPTATION,
    TENTHS,
    THIRTIETHS,
    VALIDATION,
    Measured,
    Method,
    Needs,
    PerTask,
    Process,
    Row,
    layerwise,
)
from tsvlib.methods.core import Cored

ONE = (1.0,)
_ROWS: tuple[Row, ...] = (
    Method("weight_averaging", "Weight averaging", Cored(averages.weight_averaging), ONE),
    Method("task_arithmetic", "Task arithmetic", Cored(averages.task_arithmetic), THIRTIETHS, VALIDATION),
    Method("ties", "TIES", ties.ties, TENTHS, VALIDATION),
    Method("iso_c", "Iso-C", layerwise(isotropic.iso_c), TENTHS, VALIDATION),
    Method("consensus_ta", "Consensus TA", layerwise(masks.consensus_ta), THIRTIETHS, VALIDATION),
    Method("tsv_m", "TSV-M", Cored(tsv.tsv_m), TENTHS, VALIDATION),
    Method("tsv_m_alpha_1", "TSV-M, alpha = 1", Cored(tsv.tsv_m), ONE),
    Method("tsv_m_eigen", "TSV-M, eigen form", Cored(tsv.tsv_m_eigen), TENTHS, VALIDATION),
    Method("low_rank", "Low rank only", Cored(tsv.low_rank), THIRTIETHS, VALIDATION),
    Method(
        "interference_reduction",
        "Interference reduction only",
        Cored(tsv.interference_reduction),
        TENTHS,
        VALIDATION,
    ),
    Method("tsv_m_exchanged", "TSV-M, steps exchanged", Cored(ranks.orthogonalised_first), ONE),
    Method("tsv_m_gavish_donoho", "TSV-M, Gavish-Donoho", layerwise(ranks.gavish_donoho), ONE),
    Method("tsv_m_marchenko_pastur", "TSV-M, Marchenko-Pastur", layerwise(ranks.marchenko_pastur), ONE),
    Method("tsv_m_energy", "TSV-M, energy", ranks.energy, ONE),
    Method("dc_merge", "DC-Merge", layerwise(dc.dc_merge), TENTHS, VALIDATION),
    Method("iso_cts", "Iso-CTS", layerwise(isotropic_cts.iso_cts), TENTHS, VALIDATION),
    Method(
        "regmean_from_differences", "RegMean from differences", layerwise(closed_form.regmean_from_differences), ONE
    ),
    Method("swudi", "SWUDI", layerwise(closed_form.swudi), ONE),
    Method("aswudi", "ASWUDI", layerwise(closed_form.aswudi), ONE),
    Method("wudi", "WUDI", layerwise(wudi.wudi), ONE, Needs(training=True)),
    Method("star", "STAR", layerwise(star.star), ONE),
    Method("cart", "CART", layerwise(cart.cart), ONE),
    Method("knots_ties", "KnOTS-TIES", knots.knots_ties, TENTHS, VALIDATION),
    Method("dare", "DARE", dare.dare, THIRTIETHS, VALIDATION),
    Method("breadcrumbs", "Model Breadcrumbs", layerwise(breadcrumbs.breadcrumbs), THIRTIETHS, VALIDATION),
    Measured("fisher", "Fisher merging", "fisher", fisher.fisher_merging),
    Measured("regmean", "RegMean", "gram", regmean.regmean),
    Measured("esm", "ESM", "inputs", esm.esm),
    Measured("adamerging_task", "AdaMerging, task-wise", "coefficients", adamerging.adamerging, ADAPTATION),
    Measured("adamerging", "AdaMerging, layer-wise", "coefficients", adamerging.adamerging, ADAPTATION),
    PerTask("emr", "EMR-Merging", emr.pack, Needs(storage=True)),
    PerTask("tall_mask_ties", "TALL-Mask + TIES", masks.pack_ties, VALIDATION.beside(Needs(storage=True))),
    PerTask("tall_mask_ta", "TALL-Mask + TA", masks.pack_arithmetic, VALIDATION.beside(Needs(storage=True))),
    Process("svc", "SVC", calibration.svc, ONE),
    Process("svc_shrinking", "SVC, shrinking only", calibration.svc_bounded(1.0), ONE),
    Process("boosting", "Subspace Boosting", boosting.boosting),
    Process("lines", "LiNeS", lines.lines, ONE),
)
METHODS: dict[str, Row] = {row.name: row for row in _ROWS}
UPDATES: dict[str, Method] = {row.name: row for row in _ROWS if isinstance(row, Method)}
MEASURED: dict[str, Measured] = {row.name: row for row in _ROWS if isinstance(row, Measured)}
PER_TASK: dict[str, PerTask] = {row.name: row for row in _ROWS if isinstance(row, PerTask)}
IN_CORE = tuple(row.name for row in UPDATES.values() if isinstance(row.bind, Cored))
"""Methods that merge adapters in their core, without multiplying them out."""
PROCESSES: dict[str, Process] = {row.name: row for row in _ROWS if isinstance(row, Process)}
_OTHERWISE = {
    "measured": "merges by what is measured on inputs, which only whoever has these can give it",
    "experts": "keeps a model for each task, and merges nothing by itself",
    "process": "changes what another method merges, and merges nothing by itself",
}


def named(name: str) -> Method:
    """Return a way to merge into one update by its name, in which ``-`` may stand for ``_``.

    Names of processes that follow stand after it, each after a ``+``.

    Raises:
        InputError: there is none of that name, or it does something else.

    >>> named("task-arithmetic+svc").title
    'Task arithmetic + SVC'
    """
    first, *following = name.replace("-", "_").split("+")
    found = METHODS.get(first)
    if found is not None and not isinstance(found, Method):
        raise InputError(f"`{first}` {_OTHERWISE[found.kind]}; choose one of {_listed(UPDATES)}.")
    if found is None:
        raise InputError(f"there is no merging method `{name}`; choose one of {_listed(UPDATES)}.")
    for each in following:
        if each not in PROCESSES:
            raise InputError(f"nothing named `{each}` can follow a method; choose one of {_listed(PROCESSES)}.")
        found = found.then(PROCESSES[each])
    return found


def _listed(rows: dict[str, Method] | dict[str, Process]) -> str:
    return ", ".join(rows).replace("_", "-")
