# SPDX-License-Identifier: MIT
"""What is committed changes by a run with its own parameters alone; any other run writes into build and says where."""

import json

import checkout
import pytest

SMALL = """\
# %% tags=["parameters"]
profile = "mini"  # which size
share = 0.5  # of what

# %%
import pandas as pd

from compendium.paper import plotting, results

# %%
frame = pd.DataFrame({"name": ["a"], "value": [share]})
results.save("small", frame, profile, {"name": "key", "value": "share"})
results.save_table("small", frame.astype(str).set_index("name"), profile, "A caption")
figure = plotting.plt.figure()
plotting.save_figure(figure, "drawn", profile, alt="Nothing.", source="90_small")
"""
MADE = [f"data/results/mini/small.{suffix}" for suffix in ("csv", "json")]
MADE += [f"figures/mini/drawn.{suffix}" for suffix in ("pdf", "png", "svg", "txt")]
MADE += [f"figures/mini/small.{suffix}" for suffix in ("csv", "md", "tex")]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    folder = checkout.copied(tmp_path_factory.mktemp("checkout"))
    (folder / "notebooks" / "90_small.py").write_text(SMALL, encoding="utf-8")
    checkout.commit(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameter", "executed", "table"),
    [
        ("profile=smoke", "build/smoke/notebooks/smoke/90_small.ipynb", "build/smoke/data/results/smoke/small.csv"),
        (
            "share=0.25",
            "build/mini-share-0.25/notebooks/90_small.ipynb",
            "build/mini-share-0.25/data/results/mini/small.csv",
        ),
    ],
    ids=["profile", "parameter"],
)
def test_a_run_with_another_profile_or_parameter_touches_nothing_and_says_where(copy, parameter, executed, table):
    done = checkout.run(copy, "-m", "compendium", "run", "notebooks/90_small.py", "-p", parameter)
    assert done.returncode == 0, done.stderr
    assert checkout.changes(copy) == []
    assert done.stderr.splitlines()[-1].endswith(f"; the executed copy is {executed}")
    assert (copy / executed).is_file()
    assert (copy / table).is_file()


def test_a_run_without_the_runner_leaves_drafts_and_says_how_they_become_results(copy):
    done = checkout.run(copy, "notebooks/90_small.py")
    assert done.returncode == 0, done.stderr
    assert checkout.changes(copy) == []
    assert sorted(
        file.relative_to(copy / "build" / "drafts").as_posix() for file in (copy / "build" / "drafts").rglob("*.*")
    ) == sorted(MADE)
    told = done.stderr.splitlines()
    assert len(told) == 3
    assert "build/drafts/data/results/mini/small.csv" in told[0]
    assert told[0].endswith("save the notebook and run `make data/results/mini/small.csv`.")


@pytest.mark.slow
def test_a_run_into_another_folder_touches_nothing(copy, tmp_path):
    done = checkout.run(
        copy, "-m", "compendium", "run", "notebooks/90_small.py", "-p", "share=1", TSV_OUTPUT=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    assert checkout.changes(copy) == []
    assert (tmp_path / "data" / "results" / "mini" / "small.csv").read_text() == "name,value\na,1\n"


@pytest.mark.slow
def test_a_run_with_the_parameters_of_the_notebook_makes_what_is_to_be_committed(copy):
    done = checkout.run(
        copy, "-m", "compendium", "run", "notebooks/90_small.py", "-p", "profile=mini", "-p", "share=0.5"
    )
    assert done.returncode == 0, done.stderr
    assert sorted(checkout.changes(copy)) == [f"?? {name}" for name in sorted([*MADE, "notebooks/90_small.ipynb"])]
    assert "the executed copy is" not in done.stderr
    checkout.git(copy, "clean", "--force", "--quiet")


@pytest.mark.slow
def test_the_tour_needs_its_few_experts_alone_and_touches_nothing(copy):
    made = checkout.run(copy, "-m", "compendium", "train", "--profile", "smoke", "--first-suite")
    assert made.returncode == 0, made.stderr
    assert "the tour needs 2 of 9 experts" in made.stderr
    tour = ("notebooks/00_tour.ipynb", "-p", "profile=smoke")
    assert checkout.run(copy, "-m", "compendium", "run", *tour).returncode == 0
    wrong = checkout.run(copy, "-m", "compendium", "run", *tour, "-p", "layer=nonsense")
    assert wrong.returncode == 1
    assert "there is no task matrix 'nonsense'; choose one of visual." in wrong.stderr.splitlines()[-1]
    layer = checkout.run(copy, "-m", "compendium", "run", *tour, "-p", "layer=visual.proj")
    assert layer.returncode == 0, layer.stderr
    assert (copy / "build" / "smoke-layer-visual.proj" / "notebooks" / "smoke" / "00_tour.ipynb").is_file()
    bare = "build/bare.ipynb"
    papermill = ("-m", "papermill", "notebooks/00_tour.ipynb", bare, "-p", "profile", "smoke", "--no-progress-bar")
    assert checkout.run(copy, *papermill).returncode == 0
    assert checkout.changes(copy) == []
    outputs = [cell.get("outputs", []) for cell in json.loads((copy / bare).read_text())["cells"]]
    assert not [each for cell in outputs for each in cell if each.get("name") == "stderr"], "a warning comes first"
