# %% [markdown]
# # Test-time adaptation
#
# How much of each task should go into each tensor of a merged model? AdaMerging learns it from inputs without labels:
# one coefficient per task and tensor, moved until the predictions have little entropy. The appendix does the same
# with what each task puts into TSV-M.
#
# | | |
# |---|---|
# | Reads | `checkpoints.csv`, `sources.csv` and the experts |
# | Writes | `data/results/<profile>/test_time.csv` |
# | Paper item | App. D.2.7 |
# | Run time | mini: about 1 minute on 2 CPU cores; minilm: about 6 minutes; smoke: seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: which models and tasks

# %%
import math

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
print(adaptation.PROTOCOL)
starts = {tables.TITLES[name]: start for name, start in studies.STARTS.items()}
pd.Series(starts, name="start").to_frame()

# %% [markdown]
# TSV-M adds up parts as well: for each task its leading components with their vectors orthogonalised against
# those of all others, and 1/T of the change of what is no matrix. With all coefficients at 1 they are TSV-M.
#
# ## Adapt
#
# Each of the two has one thread of its own, so that the number of CPUs changes nothing but the time.

# %%
settings = profiles.load(profile).first_seeds()
n_tasks = settings.suites[0]
rows = []
with progress.track(len(starts), "adapting") as bar:
    for found in studies.adapted(next(runs.of(settings)), n_tasks):
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
# Does adaptation add to TSV-M? By the rule of the ledger (notebook 41):

# %%
print(claims.told("test_time", {"test_time": frame, "sources": results.load("sources", profile)}))

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
