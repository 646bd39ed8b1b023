# SPDX-License-Identifier: MIT
import hashlib
import json
import sys

import pandas as pd
import pytest

from compendium import commands, paths, provenance
from compendium.paper import results, verify
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


def sidecar(table):
    return json.loads(table.with_suffix(".json").read_text(encoding="utf-8"))


def test_the_sidecar_describes_columns_and_where_the_table_comes_from():
    found = sidecar(save(tolerances={"alpha": 0.3}, relative=0.1))
    assert (found["columns"], found["profile"]) == (COLUMNS, "smoke")
    assert (found["tolerances"], found["relative"]) == ({"alpha": 0.3}, 0.1)
    assert provenance.record().keys() <= found.keys()


def test_a_table_names_what_was_loaded_before_it_was_saved():
    first = save()
    results.load("merge", "smoke")
    later = sidecar(results.save("later", FRAME, "smoke", COLUMNS))
    assert sidecar(first)["inputs"] == {}
    assert later["inputs"] == {"data/results/smoke/merge.csv": hashlib.sha256(first.read_bytes()).hexdigest()}


def test_a_table_that_changes_while_it_is_used_is_told():
    save()
    results.load("merge", "smoke")
    save(FRAME.assign(value=0.0))
    with pytest.raises(InputError, match="changed since it was read first"):
        results.load("merge", "smoke")


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
    assert verify.compare(left, right).empty
    assert commands.main(["compare", str(left), str(right)]) == 0
    assert "agrees" in capsys.readouterr().out


def test_tolerances_decide_about_numbers(folders):
    moved = FRAME.assign(value=FRAME["value"] + 0.02)
    left = folders("left", tolerances={"value": 0.03, "alpha": 0.001})
    differences = verify.compare(left, folders("right", moved))
    assert differences[["row", "column", "tolerance"]].values.tolist() == [["average, 0, alpha", "value", 0.001]]


def test_a_relative_tolerance_follows_the_size_of_the_number(folders):
    large = FRAME.assign(value=[1000.0, 0.001, -2000.0])
    moved = large.assign(value=[1000.9, 0.0010009, -2001.9])
    left = folders("left", large, tolerances={"value": 0.0, "alpha": 0.0}, relative=1e-3)
    assert verify.compare(left, folders("right", moved)).empty
    worse = moved.assign(value=[1000.9, 0.00101, -2001.9])
    assert len(verify.compare(left, folders("right", worse))) == 1


def hits(*texts: str) -> pd.DataFrame:
    return pd.DataFrame({"seed": range(len(texts)), "accuracy": [0.5] * len(texts), "hits": texts})


def test_hits_may_differ_in_the_stated_share_of_inputs_and_never_as_text(folders):
    half, other, far = "f0" * 50, "f1" + "f0" * 49, "0f" * 50
    left = folders("left", hits(half, half, ""), tolerances={"hits": 0.01})
    assert verify.compare(left, folders("right", hits(half, other, ""))).empty
    differences = verify.compare(left, folders("right", hits(far, half, "")))
    assert differences[["row", "column", "left", "right", "tolerance"]].values.tolist() == [
        ["0", "hits", half, far, 0.01]
    ]
    strict = folders("left", hits(half, half, ""), tolerances={"hits": 0.0})
    assert len(verify.compare(strict, folders("right", hits(half, other, "")))) == 1
    assert len(verify.compare(strict, folders("right", hits(half, half[:-2], half)))) == 2


def test_hits_tell_rows_not_apart_and_are_no_numbers_even_if_they_look_like_some(folders):
    with pytest.raises(ValueError, match="two rows share one key"):
        folders("left", hits("00", "01").assign(seed=0))
    folders("left", hits("0010", "1e10", ""))
    assert results.load("merge", "smoke").hits.tolist() == ["0010", "1e10", ""]


def test_rows_tables_and_headers_must_agree(folders, capsys):
    left, right = folders("left"), folders("right", FRAME.iloc[:2])
    folders("left", name="spectra")
    folders("right", FRAME.rename(columns={"seed": "run"}), name="spectra")
    folders("right", name="compress")
    table = verify.compare(left, right)
    assert sorted(table["table"]) == ["compress.csv", "merge.csv", "spectra.csv"]
    assert commands.main(["compare", str(left), str(right)]) == 1
    assert "3 differences" in capsys.readouterr().out


def test_missing_numbers_equal_only_missing_numbers(folders):
    empty = FRAME.assign(value=[float("nan"), 0.5, 1.0])
    assert verify.compare(folders("left", empty), folders("right", empty)).empty
    assert len(verify.compare(folders("left", empty), folders("right"))) == 1


def test_a_folder_without_tables_is_a_mistake(folders, tmp_path, capsys):
    assert commands.main(["compare", str(folders("left")), str(tmp_path / "nowhere")]) == 1
    assert "no result tables" in capsys.readouterr().err


NOTEBOOK = """\
# %% tags=["parameters"]
profile = "mini"  # which size
steps = 3  # how many

# %%
from tsvlib import study

study.run(steps)
"""
STUDY = '"""A study."""\n\n\ndef run(steps):\n    return steps + 1  # one more\n'


@pytest.fixture
def checkout(monkeypatch, tmp_path):
    """A small checkout in which a notebook has computed ``merge`` from a file; and its files."""
    root = tmp_path / "checkout"
    texts = {"notebook": NOTEBOOK, "study": STUDY, "input": "a,b\n"}
    names = ("notebooks/13_merge.py", "tsvlib/study.py", "data/published/claims.csv")
    files = dict(zip(texts, (root / name for name in names), strict=True))
    for name, file in files.items():
        file.parent.mkdir(parents=True)
        file.write_text(texts[name], encoding="utf-8")
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setenv("TSV_OUTPUT", str(root / "build" / "output"))
    monkeypatch.setenv("JPY_SESSION_NAME", str(files["notebook"]))
    for name, value in {"profile": "smoke", "steps": 3}.items():
        monkeypatch.setattr(sys.modules["__main__"], name, value, raising=False)
    provenance.note(files["input"])
    provenance.note(paths.cache("smoke") / "experts" / "gone.safetensors", "digest")
    return files | {"folder": save().parent}


def checked(checkout, capsys):
    code = commands.main(["check-tables", str(checkout["folder"])])
    return code, capsys.readouterr().out.splitlines()


def test_what_was_computed_with_this_checkout_passes_the_check(checkout, capsys):
    code, said = checked(checkout, capsys)
    assert code == 0
    assert said[-1].endswith("code, parameters and inputs of all 1 tables are those of this checkout.")


@pytest.mark.parametrize(
    ("where", "old", "new"),
    [
        ("study", "A study.", "Another one."),
        ("study", "  # one more", "  # to be sure"),
        ("notebook", "  # how many", "  # of them"),
        ("notebook", "# %%\nfrom", "# %% [markdown]\n# Prose.\n\n# %%\nfrom"),
    ],
)
def test_the_check_does_not_mind_prose(checkout, capsys, where, old, new):
    checkout[where].write_text(checkout[where].read_text().replace(old, new))
    assert checked(checkout, capsys)[0] == 0


@pytest.mark.parametrize(
    ("where", "old", "new", "said"),
    [
        ("study", "+ 1", "+ 2", "merge: notebooks/13_merge.py or a module that it imports"),
        ("notebook", "run(steps)", "run(4)", "merge: notebooks/13_merge.py or a module that it imports"),
        ("input", "a", "b", "merge: data/published/claims.csv"),
        (
            "notebook",
            "steps = 3",
            "steps = 4",
            "merge: parameters {'profile': 'smoke', 'steps': 3} and not {'profile': 'smoke', 'steps': 4}",
        ),
    ],
)
def test_the_check_names_what_has_changed(checkout, capsys, where, old, new, said):
    checkout[where].write_text(checkout[where].read_text().replace(old, new))
    code, lines = checked(checkout, capsys)
    assert code == 1
    assert lines[0] == said
    assert lines[-1].endswith("delete their sidecars and run `make paper`.")
    assert len(lines) == 2


def test_the_check_notices_what_is_gone(checkout, capsys):
    checkout["input"].unlink()
    assert checked(checkout, capsys)[1][0] == "merge: data/published/claims.csv"
    checkout["notebook"].unlink()
    assert checked(checkout, capsys)[1][0] == "merge: its notebook is unknown"


def test_of_many_differences_the_check_names_a_few(checkout, capsys):
    for number in range(5):
        file = paths.cache("smoke") / "experts" / f"{number}.safetensors"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"then")
        provenance.note(file)
    save()
    for file in (paths.cache("smoke") / "experts").iterdir():
        file.write_bytes(b"now")
    code, said = checked(checkout, capsys)
    assert code == 1
    assert said[0].endswith(
        "/0.safetensors, data/cache/smoke/experts/1.safetensors, data/cache/smoke/experts/2.safetensors and 2 more"
    )


def test_an_input_in_the_cache_is_compared_where_it_is_there(checkout, capsys):
    expert = paths.cache("smoke") / "experts" / "gone.safetensors"
    expert.parent.mkdir(parents=True)
    expert.write_bytes(b"another")
    assert checked(checkout, capsys)[1][0] == "merge: data/cache/smoke/experts/gone.safetensors"


def test_a_table_that_no_notebook_computed_does_not_pass_the_check(checkout, capsys, monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME")
    save()
    assert checked(checkout, capsys)[1][0] == "merge: its notebook is unknown"


def test_there_must_be_tables_to_check(tmp_path, capsys):
    assert commands.main(["check-tables", str(tmp_path)]) == 1
    assert "no result tables" in capsys.readouterr().err


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
