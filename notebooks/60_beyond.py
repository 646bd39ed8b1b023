# %% [markdown]
# # Beyond the paper: all methods on equal terms
#
# Which method should one use? Those of Table 1 and those that came after the paper, on the same experts, the same
# images and with the same choices of alpha, beside what each of them is shown and stores.
#
# | | |
# |---|---|
# | Reads | `{checkpoints,sources}.csv` and the experts |
# | Writes | `data/results/<profile>/beyond.csv` |
# | Paper item | none (`make beyond`; Table 1 says what methods require) |
# | Run time | mini: 45 to 65 minutes on 2 CPU cores; minilm: two hours and a quarter; smoke: a minute |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: which models and tasks
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import leads, results, tables
from compendium.study import adaptation, beyond, runs, statistics, studies

# %% [markdown]
# ## What was decided beforehand
#
# Every backbone and suite, with the first seed. A method that declares to need labels has its alpha chosen by
# validation inputs, as in notebook 13, but from every third value of its own grid: whole grids would take twice the
# time. All others are taken with alpha = 1. TSV-M, DC-Merge, Iso-C and Iso-CTS are measured both ways, since they
# need nothing with alpha = 1. Settings of methods are those that their authors recommend (`tsvlib.methods`), the same
# in all worlds: nothing else is searched. Adaptation at test time takes long, so AdaMerging runs on the first suite
# of each backbone alone.

# %%
choices = [
    (tables.TITLES[name], beyond.method(name, lambda _: []).alphas)
    for name in beyond.MERGED
    if beyond.is_searched(name)
]
pd.DataFrame([(title, min(a), max(a), len(a)) for title, a in choices], columns=["method", "from", "to", "alphas"])

# %% [markdown]
# ## What is measured on inputs
#
# Fisher merging is told the diagonal of each expert's Fisher information, with labels that are drawn from the expert's
# own predictions; RegMean the Gram matrices of the inputs of linear layers, over the number of rows; ESM these inputs
# themselves. All are validation inputs, the first ones of each task, and come without their labels: what measures
# them has no place for any.

# %%
print("inputs of each task at most:", statistics.COUNTS, "; test-time adaptation:", adaptation.PROTOCOL)

# %% [markdown]
# ## Measure

# %%
settings = profiles.load(profile, backbones, suites).first_seeds()
rows = []
for run, n_tasks in runs.cells(settings, "all methods"):
    rows += studies.references(run, n_tasks)
    slow = beyond.ADAPTED if n_tasks == settings.suites[0] else ()
    for name in (*beyond.MERGED, *beyond.PACKED, *slow):
        rows += beyond.measured(run, n_tasks, name)

# %% [markdown]
# Bytes are values in float32: one update for all tasks, or all that experts have beside the base. Another machine may
# choose a neighbouring alpha or another lambda where the score is flat, so these, counts of scored alphas and single
# inputs are compared loosely; bytes and counts of inputs are exact.

# %%
frame = pd.DataFrame(rows)
checkpoints = results.load("checkpoints", profile)
loose = studies.SEARCH | {"lambda": 0.4, "bytes": 0, "inputs": 0, "labels": 0, "alpha": 0.6}
results.save("beyond", frame, profile, beyond.TAKEN, tolerances=loose)
(100 * tables.means(frame, "normalised_accuracy")).round(1).T.rename(index=tables.TITLES)

# %% [markdown]
# ## The alphas that were chosen

# %%
tables.means(frame, "alpha").round(2).T.rename(index=tables.TITLES)

# %% [markdown]
# ## Against TSV-M with alpha = 1
#
# In points of normalised accuracy, on paired draws of the same inputs; notebook 62 prints all of it.

# %%
found = leads.against(frame, results.load("sources", profile))
print(leads.told(found))
mean = found.groupby("method", sort=False)[["lead", "error"]].mean().rename(index=tables.TITLES)
mean.sort_values("lead", ascending=False).round(2)

# %% [markdown]
# What must hold is that nothing is missing, and that the references are the measurements of notebook 10.

# %%
every = len(settings.backbones) * len(settings.suites)
counts = frame[frame.metric == "normalised_accuracy"].groupby("method").size()
assert (counts.drop(list(beyond.ADAPTED)) == every).all()
assert set(counts.index) == {"zero_shot", "individual", *beyond.MERGED, *beyond.PACKED, *beyond.ADAPTED}
own = frame[(frame.method == "individual") & (frame.metric == "accuracy")].set_index(["backbone", "seed", "task"]).value
known = checkpoints[checkpoints.method == "individual"].set_index(["backbone", "seed", "task"]).value
assert (own - known).dropna().abs().max() < 1e-5
assert frame.value.notna().all()
print(provenance.versions_line())
