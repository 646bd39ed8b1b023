# SPDX-License-Identifier: MIT
"""Who led and who leads: published numbers of one set of experts, and the sentences that README and ledger say."""

from pathlib import Path

import pandas as pd
import pytest

from compendium import paths, published
from compendium.paper import successors

SETTINGS = [(backbone, n_tasks) for backbone in ("ViT-B-16", "ViT-B-32", "ViT-L-14") for n_tasks in (8, 14, 20)]
LATER = {"ties", "iso_c", "iso_cts", "fr_merging", "dc_merge", "esm"}


def cells(name: str) -> pd.DataFrame:
    frame = published.load(name)
    found: pd.DataFrame = frame.pivot_table(index=["backbone", "n_tasks", "metric"], columns="method", values="percent")
    return found


def test_successors_have_eighteen_cells_each_and_a_source():
    frame = published.load("successors")
    assert set(frame.method) == LATER
    for _, rows in frame.groupby("method"):
        assert sorted(zip(rows.backbone, rows.n_tasks, strict=True)) == sorted(2 * SETTINGS)
        assert rows.metric.value_counts().to_dict() == {"accuracy": 9, "normalised_accuracy": 9}
    read = frame[frame.method.isin(["fr_merging", "dc_merge", "esm"])].item.unique()
    assert list(read) == ["ESM, kiddo127/ESM at fc82fe7: assets/vit_performance.png"]


def test_both_numbers_of_a_cell_are_of_one_model():
    # Normalised accuracy is accuracy over that of the experts, give or take what a mean of ratios does.
    percent = pd.concat([cells("successors"), cells("merging").drop(columns="zero_shot")], axis=1)
    ratios = percent.xs("accuracy", level="metric") / percent.xs("normalised_accuracy", level="metric")
    experts = cells("compression").individual.xs("accuracy", level="metric") / 100
    assert ratios.shape == (9, 10)
    assert (ratios.sub(experts, axis=0).abs() < 0.015).all(axis=None)


def test_who_needs_more_than_checkpoints_says_so_and_all_successors_are_listed():
    needs = published.load("successor_requirements").set_index("method")
    assert set(needs[[*successors.REQUIREMENTS, "router"]].to_numpy().ravel()) == {"yes", "no"}
    assert set(needs.index) - LATER == {"adarank", "wemoe", "smile", "mass"}
    assert LATER - set(needs.index) == {"ties"}  # a row of Table 1
    assert needs.index[needs.router == "yes"].tolist() == needs.index[needs.storage == "yes"].tolist()
    free = needs.index[(needs[successors.REQUIREMENTS] == "no").all(axis=1)]
    assert set(free) == {"iso_c", "iso_cts", "dc_merge", "fr_merging"}


def test_leads_are_differences_of_published_cells():
    ours = cells("merging")["tsv_m"].xs("normalised_accuracy", level="metric")
    later = cells("successors").xs("normalised_accuracy", level="metric")
    found = successors.since()
    assert list(found.index) == SETTINGS
    for place, row in found.iterrows():
        rivals = later.loc[place, ["iso_c", "iso_cts", "dc_merge", "fr_merging"]]
        assert row.lead == pytest.approx(rivals.max() - ours[place], abs=0.051)
        assert rivals[row.method] == rivals.max()
    assert found.loc[("ViT-B-32", 20)].to_dict() == {"method": "dc_merge", "lead": 3.9}
    assert successors.then().loc[("ViT-B-32", 20)].to_dict() == {"method": "consensus_ta", "lead": 12.3}
    assert successors.by_inputs().lead.tolist() == pytest.approx((later.esm - ours).tolist(), abs=0.051)


def test_readme_says_who_led_who_leads_and_where_none_of_it_holds():
    text = " ".join((paths.ROOT / "README.md").read_text(encoding="utf-8").split())
    assert successors.told() in text
    ledger = " ".join(
        (paths.ROOT / "notebooks" / "41_claims.py").read_text(encoding="utf-8").replace("\n#", " ").split()
    )
    for page in (text, ledger):
        assert "For large language models Hitit, Girrbach and Akata (arXiv 2511.21437, 2025) find" in page
        assert "only task arithmetic helps reliably" in page


def test_settings_in_which_nobody_is_ahead_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for file in paths.published().glob("*.csv"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    frame = published.load("successors")
    behind = (frame.backbone == "ViT-L-14") & (frame.method != "esm")
    frame.assign(percent=frame.percent.where(~behind, 50.0)).to_csv(tmp_path / "successors.csv", index=False)
    monkeypatch.setattr(paths, "published", lambda: tmp_path)
    assert "TSV-M in 6 of 9 settings, by 1.3 to 4.3 points (DC-Merge in" in successors.told()
