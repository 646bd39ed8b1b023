# SPDX-License-Identifier: MIT
"""Table 1: declarations agree with the paper's, and nothing is left out or made up."""

import pandas as pd
import pytest

from compendium import published
from compendium.paper import requirements, tables
from tsvlib.methods import METHODS, UPDATES, named
from tsvlib.methods.base import INPUTS, NOTHING, VALIDATION, Needs

TITLES = tables.TITLES
SIZES = {"individual": 4e6, "tsv_c": 1.5e6, "tall_mask_ties": 1.1e6, "tall_mask_ta": 1.1e6, "emr": 1.2e6}


def compress() -> pd.DataFrame:
    rows = [("a", 4, name, "bytes", size) for name, size in SIZES.items()]
    rows += [("a", 2, name, "bytes", 1.0) for name in SIZES] + [("a", 4, "tsv_c", "accuracy", 0.5)]
    return pd.DataFrame(rows, columns=["backbone", "n_tasks", "method", "metric", "value"])


def table() -> pd.DataFrame:
    sizes = requirements.stored(compress(), "a", 4)
    return requirements.table(published.load("requirements"), TITLES, sizes)


def test_every_method_declares_and_others_are_no_ways_to_merge():
    assert set(requirements.declared()) == set(METHODS) | set(requirements.OTHERS)
    assert not set(METHODS) & set(requirements.OTHERS)
    assert set(requirements.declared()) <= set(TITLES)


def test_whoever_searches_alpha_needs_labelled_images():
    for name, method in UPDATES.items():
        assert method.needs.labels == method.needs.inputs == method.searches_alpha, name


def test_what_follows_with_an_alpha_of_its_own_leaves_no_label_to_ask_for():
    assert named("task_arithmetic").needs == named("task_arithmetic+boosting").needs == VALIDATION
    assert named("task_arithmetic+svc").needs == named("task_arithmetic+boosting+lines").needs == NOTHING
    assert named("wudi+svc").needs == Needs(training=True)


def test_declarations_are_the_papers_but_for_the_lambdas_of_tall_masks():
    rows = published.load("requirements").set_index("method")
    for name in rows.index.intersection(list(requirements.declared())):
        theirs = Needs(*(rows.loc[name, list(Needs._fields)] == "yes"))
        ours = requirements.declared()[name]
        assert ours == (Needs(storage=True, inputs=True, labels=True) if name == "tall_mask_ties" else theirs), name


def test_cells_tell_ours_and_the_papers_where_they_differ():
    row = table().loc["TALL-Mask + TIES"]
    assert row["Extra storage"] == "yes"
    assert row["Validation labels"] == "yes (paper: no)"


def test_all_that_the_paper_lists_runs_here_and_what_it_does_not_list_says_so():
    rows, paper = table(), published.load("requirements")
    assert set(paper.method) <= set(requirements.declared())
    assert (rows["In Table 1"] == "yes").sum() == len(paper)
    assert (rows["Here"] == "yes").all()
    assert rows.loc["Fisher merging", "Validation inputs"] == "yes"
    assert rows.loc["Iso-C", ["In Table 1", "Here"]].tolist() == ["no", "yes"]
    assert requirements.declared()["fisher"] == INPUTS
    assert rows.index.is_unique


def test_a_method_that_only_the_paper_has_stands_there_as_published():
    theirs = {"item": "Table 1", "method": "other", "title": "Other", "training": "yes", "storage": "no"}
    more = pd.DataFrame([theirs | {"inputs": "no", "labels": "no"}])
    row = requirements.table(more, TITLES, {}).loc["Other"]
    assert row[["Extra training", "In Table 1", "Here"]].tolist() == ["yes", "yes", "not run here, as published"]
    assert row["Stored (MB)"] == "not measured"


def test_what_makes_one_model_stores_one_update_and_the_rest_what_was_measured():
    sizes = requirements.stored(compress(), "a", 4)
    assert sizes.keys() == requirements.declared().keys()
    assert {name: sizes[name] for name in SIZES if name in sizes} == {n: s for n, s in SIZES.items() if n in sizes}
    assert sizes["tsv_m"] == sizes["fisher"] == sizes["svc"] == sizes["adamerging"] == 1e6
    assert table().loc["TSV-C", "Stored (MB)"] == "1.50"


def test_a_method_that_stores_more_must_have_been_measured():
    without = compress()
    with pytest.raises(KeyError, match="emr"):
        requirements.stored(without[without.method != "emr"], "a", 4)
