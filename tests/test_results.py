# SPDX-License-Identifier: MIT
import json

import pandas as pd
import pytest

from tsvlib import paths, results
from tsvlib.errors import InputError

COLUMNS = {"method": "name", "seed": "of the training", "metric": "what", "value": "in [0, 1]"}
FRAME = pd.DataFrame(
    {
        "method": ["tsv_m", "tsv_m", "average"],
        "seed": [1, 0, 0],
        "metric": ["accuracy", "accuracy", "alpha"],
        "value": [1 / 3, 0.5, 1.0],
    }
)


def save(frame=FRAME, profile="smoke", **options):
    return results.save("merge", frame, profile, COLUMNS, **options)


def test_a_table_is_sorted_and_short():
    assert save().read_text(encoding="utf-8") == (
        "method,seed,metric,value\naverage,0,alpha,1\ntsv_m,0,accuracy,0.5\ntsv_m,1,accuracy,0.333333\n"
    )


def test_load_returns_what_was_saved():
    save()
    loaded = results.load("merge", "smoke")
    assert list(loaded["seed"]) == [0, 0, 1]
    assert loaded["value"].tolist() == pytest.approx([1, 0.5, 1 / 3], abs=1e-6)


def test_the_sidecar_describes_columns_inputs_and_code():
    source = paths.ROOT / "pyproject.toml"
    sidecar = json.loads(save(inputs=[source], parameters={"alpha": 1.0}).with_suffix(".json").read_text())
    assert sidecar["columns"] == COLUMNS
    assert sidecar["profile"] == "smoke"
    assert sidecar["parameters"] == {"alpha": 1.0}
    assert list(sidecar["inputs"]) == ["pyproject.toml"]
    assert {"code", "environment", "versions", "tolerances"} <= sidecar.keys()


def test_saving_twice_gives_the_same_bytes():
    first = [file.read_bytes() for file in (save(), save().with_suffix(".json"))]
    assert first == [file.read_bytes() for file in (save(FRAME.sample(frac=1)), save().with_suffix(".json"))]


def test_refuses_undescribed_columns_and_ambiguous_rows():
    with pytest.raises(ValueError, match="described columns"):
        save(FRAME.assign(task="x"))
    with pytest.raises(ValueError, match="two rows share one key"):
        save(pd.concat([FRAME, FRAME]))


def test_a_missing_table_is_told_with_its_remedy():
    with pytest.raises(InputError, match="make paper"):
        results.load("merge", "smoke")


def test_a_broken_table_is_told_with_its_remedy():
    save().write_bytes(b'"')
    with pytest.raises(InputError, match="not a readable table"):
        results.load("merge", "smoke")


@pytest.mark.parametrize("text", ["{}", '{"profile": "smoke", "tolerances": {}}', "[]", "{"])
def test_an_incomplete_sidecar_is_told_with_its_remedy(text: str):
    save().with_suffix(".json").write_text(text)
    with pytest.raises(InputError, match="make paper"):
        results.load("merge", "smoke")


def test_a_table_of_another_profile_is_refused():
    table = save(profile="mini")
    folder = paths.results("smoke")
    folder.mkdir()
    for file in (table, table.with_suffix(".json")):
        (folder / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="profile 'mini'"):
        results.load("merge", "smoke")


@pytest.fixture
def folders(monkeypatch, tmp_path):
    """Two output folders and a function that saves a table to one of them."""

    def save_to(side, frame=FRAME, name="merge", **options):
        monkeypatch.setenv("TSV_OUTPUT", str(tmp_path / side))
        return results.save(name, frame, "smoke", dict.fromkeys(frame.columns, "described"), **options).parent

    return save_to


def test_equal_tables_have_no_differences(folders, capsys):
    left, right = folders("left"), folders("right")
    assert results.compare(left, right).empty
    assert results.main(["compare", str(left), str(right)]) == 0
    assert "agrees" in capsys.readouterr().out


def test_tolerances_decide_about_numbers(folders):
    moved = FRAME.assign(value=FRAME["value"] + 0.02)
    left = folders("left", tolerances={"value": 0.03, "alpha": 0.001})
    differences = results.compare(left, folders("right", moved))
    assert differences[["row", "column", "tolerance"]].values.tolist() == [["average, 0, alpha", "value", 0.001]]


def test_a_relative_tolerance_follows_the_size_of_the_number(folders):
    large = FRAME.assign(value=[1000.0, 0.001, -2000.0])
    moved = large.assign(value=[1000.9, 0.0010009, -2001.9])
    left = folders("left", large, tolerances={"value": 0.0, "alpha": 0.0}, relative=1e-3)
    assert results.compare(left, folders("right", moved)).empty
    worse = moved.assign(value=[1000.9, 0.00101, -2001.9])
    assert len(results.compare(left, folders("right", worse))) == 1


def test_rows_tables_and_headers_must_agree(folders, capsys):
    left, right = folders("left"), folders("right", FRAME.iloc[:2])
    folders("left", name="spectra")
    folders("right", FRAME.rename(columns={"seed": "run"}), name="spectra")
    folders("right", name="compress")
    table = results.compare(left, right)
    assert sorted(table["table"]) == ["compress.csv", "merge.csv", "spectra.csv"]
    assert results.main(["compare", str(left), str(right)]) == 1
    assert "3 differences" in capsys.readouterr().out


def test_missing_numbers_equal_only_missing_numbers(folders):
    empty = FRAME.assign(value=[float("nan"), 0.5, 1.0])
    assert results.compare(folders("left", empty), folders("right", empty)).empty
    assert len(results.compare(folders("left", empty), folders("right"))) == 1


def test_a_folder_without_tables_is_a_mistake(folders, tmp_path, capsys):
    assert results.main(["compare", str(folders("left")), str(tmp_path / "nowhere")]) == 2
    assert "no result tables" in capsys.readouterr().out


PRINTED = pd.DataFrame({"8 tasks": ["85.9 ± 0.1", "70.8"], "a_b": ["not run", "1 %"]}, index=["TSV-M", "Average"])


def test_a_printed_table_marks_the_best_in_two_ways():
    results.save_table("merge", PRINTED, "smoke", "Accuracy in %.", best=[("TSV-M", "8 tasks")])
    folder = paths.figures("smoke")
    texts = {suffix: (folder / f"merge.{suffix}").read_text(encoding="utf-8") for suffix in ("csv", "md", "tex")}
    assert "TSV-M,85.9 ± 0.1,not run\n" in texts["csv"]
    assert "**85.9 ± 0.1**†" in texts["md"]
    assert texts["md"].endswith("Accuracy in %.\n")
    assert r"\textbf{85.9 $\pm$ 0.1}$^\dagger$" in texts["tex"]
    assert r"a\_b" in texts["tex"]
    assert r"Accuracy in \%." in texts["tex"]


def test_a_printed_table_needs_a_caption_and_existing_cells():
    with pytest.raises(ValueError, match="caption"):
        results.save_table("merge", PRINTED, "smoke", " ")
    with pytest.raises(ValueError, match="no such cell"):
        results.save_table("merge", PRINTED, "smoke", "Accuracy.", best=[("TSV-C", "8 tasks")])
