# %% [markdown]
# # Test-time adaptation
#
# How much of each task should go into each tensor of a merged model? AdaMerging learns it from inputs without labels:
# one coefficient per task and tensor, or one per task alone, moved until the predictions have little entropy. The
# appendix does the same with what each task puts into TSV-M.
#
# | | |
# |---|---|
# | You learn | what can be learnt from inputs without labels, and that being sure is not being right |
# | Reads | `checkpoints.csv`, `sources.csv` and the experts |
# | Writes | `data/results/<profile>/test_time.csv` |
# | Paper item | App. D.2.7 |
# | Run time | mini: about 2 minutes on 2 CPU cores; minilm: about 9 minutes; smoke: seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: which models and tasks
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all
steps = 0  # steps of Adam; 0: as many as the protocol says
learning_rate = 0.0  # its learning rate; 0: that of the protocol

# %%
import math
from dataclasses import replace

import pandas as pd

from compendium import profiles, provenance
from compendium.paper import claims, results, tables
from compendium.study import adaptation, runs, studies
from compendium.worlds.protocol import world_of
from tsvlib import progress

# %% [markdown]
# ## The protocol
#
# It was fixed before the first run in any world (see data/mini): first suite of the first backbone, first seed, 50
# steps of Adam at learning rate 0.005, 16 validation inputs of every task in each step. Labels are never read, test
# inputs only afterwards.
# Coefficients of task vectors start at AdaMerging's 0.3, those of TSV-M's parts at 1, the alpha that the paper
# recommends, and not at the one that notebook 13 chose, since that choice reads labels.

# %%
changed = {"steps": steps, "learning_rate": learning_rate}
protocol = replace(adaptation.PROTOCOL, **{name: value for name, value in changed.items() if value})
print(protocol)
starts = {tables.TITLES[name]: start for name, start in studies.STARTS.items()}
pd.Series(starts, name="start").to_frame()

# %% [markdown]
# TSV-M adds up parts as well: for each task its leading components with their vectors orthogonalised against
# those of all others, and 1/T of the change of what is no matrix. With all coefficients at 1 they are TSV-M.
#
# ## Adapt
#
# Each form has one thread of its own, so that the number of CPUs changes nothing but the time.

# %%
settings = profiles.load(profile, backbones, suites).first_seeds()
n_tasks = settings.suites[0]
rows = []
with progress.track(len(starts), "adapting") as bar:
    for found in studies.adapted(next(runs.of(settings)), n_tasks, protocol):
        rows += found
        bar.update()

# %% [markdown]
# Fifty steps carry rounding on, so entropies, coefficients and single inputs of other machines are compared loosely.

# %%
frame = pd.DataFrame(rows)
loose = {metric: 0.05 for metric in frame.metric.unique() if metric.startswith(("entropy", "coefficient"))}
loose["hits"] = 0.05
results.save("test_time", frame, profile, studies.ADAPTED_COLUMNS, tolerances=loose)
(100 * tables.means(frame, "normalised_accuracy")).round(1)

# %% [markdown]
# ## What was learnt
#
# The objective is the entropy, so it should have fallen, on the same inputs that it was learnt from. Accuracy is
# another matter: a model may be sure and wrong. Coefficients are free; AdaMerging's own code keeps them in [0, 1].

# %%
suite_wide = frame[(frame.task == studies.ALL_TASKS) & (frame.metric != "normalised_accuracy")]
suite_wide.pivot_table(index="method", columns="metric", values="value").round(3)

# %% [markdown]
# Does adaptation add to TSV-M? By the rule of the ledger (notebook 41), which is about this protocol:

# %%
found = {"test_time": frame, "sources": results.load("sources", profile)}
judged = protocol == adaptation.PROTOCOL
print(claims.told("test_time", found) if judged else f"Not judged: {protocol}")

# %% [markdown]
# Whether entropy fell is a result. What must hold is that nothing is missing and that no entropy lies beyond that of
# equal chances among the most classes.

# %%
entropies = frame[frame.metric.str.startswith("entropy")]
classes = max(len(task.classes) for task in world_of(settings).tasks[:n_tasks])
assert (frame.metric == "accuracy").sum() == len(starts) * n_tasks
assert entropies.value.between(0, math.log(classes)).all()
assert frame.value.notna().all()
print(provenance.versions_line())

# %% [markdown]
# ## Try
#
# Change the cell of parameters and run all cells again, or type a line such as the next one. Either writes into `build`
# alone. A part by `backbones` or `suites` that is run so rests on tables of its own: run notebook 10 with it first.
#
# ```
# python -m compendium run notebooks/17_test_time.py -p steps=200
# ```
#
# 1. `steps = 200`: how much further does entropy fall, and does accuracy follow it for either of the two?
# 2. `learning_rate = 0.02`: which coefficients leave 0 to 1, where AdaMerging's own code would have stopped them? Which
#    of the two models is hurt more?
