# SPDX-License-Identifier: MIT
"""Worlds side by side, in numbers that depend little on how hard tasks are: shares of gaps, and of experts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import pandas as pd

from compendium import published
from compendium.paper import errors, tables
from compendium.paper.evidence import Evidence, at
from compendium.profiles import Profile

Tables = Mapping[str, pd.DataFrame]
Cells = TypeVar("Cells", pd.DataFrame, pd.Series)
PLACE = ["backbone", "n_tasks"]
ROW = ("zero_shot", "individual", "task_arithmetic", "tsv_m_alpha_1", "tsv_m")
"""Methods of a single row beside published ones."""

PRINTED = {"paper": ("merging", "compression"), "FusionBench, other experts": ("fusion_bench",)}
"""Which published tables have such a row, by whose it is; the denominators of each are its own experts."""

VERSIONS = {
    "paper": "Experts: of the old generation, whose one of DTD had seen the test images. Test accuracies; of merged "
    "models EuroSAT on 21,600 images, most of which had trained its expert.",
    "FusionBench, other experts": "Experts: of fusion-bench, trained anew. Test accuracies on images of copies on the "
    "hub.",
}
"""Whose experts these are, and which images were scored."""

MERGED = ("weight_averaging", "task_arithmetic", "consensus_ta", "tsv_m", "tsv_m_alpha_1")


def gaps(found: Tables) -> pd.DataFrame:
    """Return the share of the gap between zero-shot model and experts that each merged model closes, in percent.

    The index names backbone, number of tasks and method; columns are draws of the bootstrap. ``found`` holds the result
    tables ``merge`` and ``sources`` of a world.
    """
    return _closed(100 * at(tables.drawn(found["merge"], found["sources"]), metric="accuracy"))


def published_gaps() -> pd.DataFrame:
    """Return the same of the paper's models, with one column: nobody drew samples there."""
    merging, experts = (published.load(name).query("metric == 'accuracy'") for name in ("merging", "compression"))
    rows = pd.concat([merging, experts[experts.method == "individual"]])
    return _closed(rows.set_index([*PLACE, "method"])[["percent"]].set_axis([0], axis=1))


def curves(found: Tables) -> pd.DataFrame:
    """Return the share of the experts' mean accuracy that low-rank experts keep, in percent, by backbone and percent.

    ``found`` holds the result tables ``spectra`` and ``sources`` of a world; columns are draws.
    """
    rows = Evidence(found).accuracies(found["spectra"], ["backbone", "seed", "percent"])
    means = errors.over_seeds(errors.over_tasks(rows))
    whole = at(means, percent=100)
    return means.mul(100).div(whole.reindex(means.index.get_level_values("backbone")).to_numpy())


def overview(found: Mapping[str, Tables], worlds: Sequence[Profile]) -> pd.DataFrame:
    """Return one row a backbone of every world, and of the paper: what is central, as text, by number of tasks."""
    rows = {
        (world.name, backbone.label): _row(found[world.name], backbone.name, world.suites)
        for world in worlds
        for backbone in world.backbones
    }
    normalised = published.load("merging").query("metric == 'normalised_accuracy'")
    theirs = pd.concat([normalised, published.load("compression").query("metric == 'normalised_accuracy'")])
    cells = theirs.drop_duplicates([*PLACE, "method"]).set_index([*PLACE, "method"]).percent
    gap = published_gaps()[0]
    for backbone in theirs.backbone.unique():
        suites = sorted(theirs[theirs.backbone == backbone].n_tasks.unique())
        rows["paper", backbone] = {
            title: " / ".join(_number(source.get((backbone, n_tasks, name))) for n_tasks in suites)
            for title, source, name in _columns(cells, cells, gap)
        }
    return pd.DataFrame(rows).T.rename_axis(["World", "Backbone"])


def beside_published(frame: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """Return accuracy and normalised accuracy in percent by method, as text: measured here, and as printed by whom.

    ``profile`` has one backbone and one suite. ``frame`` has their result rows, or none where nothing was run.
    """
    backbone, n_tasks = profile.backbones[0].counterpart, profile.suites[0]
    columns = {"here": (frame.assign(percent=100 * frame.value) if len(frame) else frame, tables.NOT_RUN)}
    for whose, names in PRINTED.items():
        printed = pd.concat([published.load(name) for name in names])
        rows = printed[(printed.backbone == backbone) & (printed.n_tasks == n_tasks)]
        columns[whose] = rows, "not published"
    found = {whose: _pairs(rows, otherwise) for whose, (rows, otherwise) in columns.items()}
    return pd.DataFrame(found, index=pd.Index([tables.TITLES[name] for name in ROW], name="Method"))


def versions(here: str) -> str:
    """Return a line for each column of :func:`beside_published` on its experts and images; ``here`` is the world's."""
    return "\n".join(f"{whose}: {stated}" for whose, stated in {"here": here, **VERSIONS}.items())


def _pairs(frame: pd.DataFrame, otherwise: str) -> list[str]:
    if frame.empty:
        return [otherwise] * len(ROW)
    cells = frame.pivot_table(index="method", columns="metric", values="percent", aggfunc="mean")
    both = cells[["accuracy", "normalised_accuracy"]].dropna().T.to_dict("list")
    return [tables.pair(*both[name]) if name in both else otherwise for name in ROW]


def reasons(found: Mapping[str, Tables], worlds: Sequence[Profile]) -> pd.DataFrame:
    """Return one row a backbone of every world: how merging goes, and what of its task matrices may decide that.

    Distances from orthogonality are Procrustes errors of the kept vectors of all task matrices, summed, over those of
    random blocks of the same shapes.
    """
    return pd.DataFrame(
        {
            (world.name, backbone.label): row
            for world in worlds
            for backbone, row in zip(world.backbones, _reasons(found[world.name], world), strict=True)
        }
    ).T.rename_axis(["World", "Backbone"])


def _reasons(found: Tables, world: Profile) -> Iterator[dict[str, float]]:
    closed, kept = gaps(found)[0], curves(found)[0]
    low = found["procrustes"].query("rank == 'low'").groupby(["backbone", "vectors"])[["error", "chance"]].sum()
    apart = low.error / low.chance
    for backbone in (each.name for each in world.backbones):
        yield {
            f"{title} closes, {n_tasks} tasks (%)": closed[backbone, n_tasks, method]
            for method, title in (("task_arithmetic", "task arithmetic"), ("tsv_m", "TSV-M"))
            for n_tasks in (world.suites[0], world.suites[-1])
        } | {
            "left vectors from orthogonal (x random)": apart[backbone, "u"],
            "right vectors from orthogonal (x random)": apart[backbone, "v"],
            "3 % of the components keep (%)": kept[backbone, 3],
        }


def _row(found: Tables, backbone: str, suites: Sequence[int]) -> dict[str, str]:
    sources = found["sources"]
    by_table = {
        name: at(tables.drawn(found[name], sources), backbone=backbone, metric="normalised_accuracy")
        for name in ("merge", "compress")
    }
    gap = at(gaps(found), backbone=backbone)
    columns = _columns(100 * by_table["merge"], 100 * by_table["compress"], gap)
    return {
        title: " / ".join(_with_error(source, n_tasks, name) for n_tasks in suites) for title, source, name in columns
    }


def _columns(merged: Cells, compressed: Cells, gap: Cells) -> list[tuple[str, Cells, str]]:
    return [
        ("Zero-shot", merged, "zero_shot"),
        ("Task arithmetic", merged, "task_arithmetic"),
        ("TSV-M", merged, "tsv_m"),
        ("TSV-C", compressed, "tsv_c"),
        ("TSV-M closes of the gap", gap, "tsv_m"),
    ]


def _with_error(drawn: pd.DataFrame, n_tasks: int, method: str) -> str:
    row = drawn.loc[[(n_tasks, method)]]
    return f"{row[0].iloc[0]:.1f} ± {errors.standard_error(row).iloc[0]:.1f}"


def _number(value: float | None) -> str:
    return "not published" if value is None else f"{value:.1f}"


def _closed(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Return (merged - zero-shot) / (experts - zero-shot) in percent, draw by draw."""
    before, experts = (at(accuracy, method=name) for name in ("zero_shot", "individual"))
    merged = accuracy[accuracy.index.get_level_values("method").isin(MERGED)]
    place = pd.MultiIndex.from_frame(merged.index.to_frame()[PLACE])
    floor = before.reindex(place).to_numpy()
    return merged.sub(floor).mul(100).div(experts.reindex(place).to_numpy() - floor)
