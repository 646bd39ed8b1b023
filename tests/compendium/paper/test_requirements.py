# SPDX-License-Identifier: MIT
"""Table 1: declarations agree with the paper's, and nothing is left out or made up."""

from compendium import published
from compendium.paper import requirements, tables
from tsvlib.methods import METHODS
from tsvlib.methods.base import Needs

TITLES = tables.TITLES


def table():
    return requirements.table(published.load("requirements"), TITLES)


def test_every_merging_method_declares_and_others_are_no_merging_methods():
    assert set(requirements.declared()) == set(METHODS) | set(requirements.OTHERS)
    assert not set(METHODS) & set(requirements.OTHERS)
    assert set(requirements.declared()) <= set(TITLES)


def test_what_searches_alpha_needs_labelled_images_unless_one_alpha_serves():
    for name, method in METHODS.items():
        without = not method.searches_alpha or name in ("tsv_m", "tsv_m_eigen")
        assert method.needs == (Needs() if without else Needs(inputs=True, labels=True)), name


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


def test_methods_of_one_side_only_say_so():
    rows = table()
    for name in ("Fisher-Merging", "RegMean", "EMR-Merging"):
        assert rows.loc[name, ["In Table 1", "Here"]].tolist() == ["yes", "not run here, as published"]
    assert rows.loc["Fisher-Merging", "Validation inputs"] == "yes"
    assert rows.loc["Iso-C", ["In Table 1", "Here"]].tolist() == ["no", "yes"]
    assert rows.index.is_unique
