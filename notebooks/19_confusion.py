# %% [markdown]
# # What a merged model takes for what
#
# One model for all tasks of the largest suite: which classes does it still tell apart?
#
# | | |
# |---|---|
# | You learn | how to look inside an accuracy: which classes of a task a merged model still tells apart |
# | Reads | `checkpoints.csv`, `merge.csv` and the experts |
# | Writes | `data/results/<profile>/confusion.csv` |
# | Paper item | Figure 18 |
# | Run time | mini: 10 seconds on 2 CPU cores; minilm: 30 seconds; smoke: seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: which models and tasks
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all
method = "tsv_m"  # the method that merges, such as task_arithmetic
alpha = 0.0  # how much of the update is added; 0: as notebook 13 chose for the method

# %%
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import results, tables
from compendium.study import runs, studies
from tsvlib import progress
from tsvlib.methods import named

# %% [markdown]
# ## The model
#
# As in the paper: TSV-M of all tasks in the largest backbone, its first seed, with the alpha that notebook 13 chose.
# Its predictions were kept there, so nothing is evaluated again. Parameters choose other models.

# %%
settings = profiles.load(profile, backbones, suites).first_seeds()
n_tasks, merging = settings.suites[-1], named(method)
merged = results.load("merge", profile).query("n_tasks == @n_tasks")
with progress.track(1, "confusion") as bar:
    *_, run = runs.of(settings)
    chosen = merged[(merged.backbone == run.backbone) & (merged.seed == run.seed)]
    scale = alpha or tables.chosen_alpha(chosen, merging.name)
    frame = pd.DataFrame(studies.confusion(run, n_tasks, merging, scale))
    bar.update()

# %% [markdown]
# Another machine may choose a neighbouring alpha, or see single inputs otherwise: counts are compared loosely.

# %%
results.save("confusion", frame, profile, studies.CONFUSION_COLUMNS, tolerances={"inputs": 25.0})
right = frame[frame.true == frame.predicted].groupby("task").inputs.sum() / frame.groupby("task").inputs.sum()
(100 * right).round(1).rename("accuracy (%)").to_frame()

# %% [markdown]
# These accuracies are those of the merged model in `merge.csv`; Consensus TA has lambdas there that were chosen, too.

# %%
known = chosen[(chosen.metric == "accuracy") & (chosen.method == merging.name)].set_index("task").value
assert alpha or merging.name == "consensus_ta" or (right - known).abs().max() < 1e-5
print(provenance.versions_line())

# %% [markdown]
# ## Try
#
# Change the cell of parameters and run all cells again, or type a line such as the next one. Either writes into `build`
# alone. A part by `backbones` or `suites` that is run so rests on tables of its own: run notebooks 10 and 13 with
# it first.
#
# ```
# python -m compendium run notebooks/19_confusion.py -p method=task_arithmetic
# ```
#
# 1. `method = "task_arithmetic"`: which tasks lose most against TSV-M? In `confusion.csv`, are their mistakes spread
#    over all classes, or do few classes take everything?
# 2. `alpha = 3.0`: too much of the update. Do all tasks fall alike, and which class is then seen everywhere?
