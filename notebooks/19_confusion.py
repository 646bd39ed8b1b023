# %% [markdown]
# # What a merged model takes for what
#
# One model for all tasks of the largest suite: which classes does it still tell apart?
#
# | | |
# |---|---|
# | Reads | `checkpoints.csv`, `merge.csv` and the experts |
# | Writes | `data/results/<profile>/confusion.csv` |
# | Paper item | Figure 18 |
# | Run time | mini: 10 seconds on 2 CPU cores; minilm: 30 seconds; smoke: seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: which models and tasks

# %%
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import results
from compendium.study import runs, studies
from tsvlib import progress
from tsvlib.methods import METHODS

# %% [markdown]
# ## The model
#
# As in the paper: TSV-M of all tasks in the largest backbone, its first seed, with the alpha that notebook 13 chose.
# Its predictions were kept there, so nothing is evaluated again.

# %%
settings = profiles.load(profile).first_seeds()
n_tasks, method = settings.suites[-1], METHODS["tsv_m"]
merged = results.load("merge", profile).query("n_tasks == @n_tasks and method == 'tsv_m'")
with progress.track(1, "confusion") as bar:
    *_, run = runs.of(settings)
    chosen = merged[(merged.backbone == run.backbone) & (merged.seed == run.seed)]
    alpha = float(chosen[chosen.metric == "alpha"].value.iloc[0])
    frame = pd.DataFrame(studies.confusion(run, n_tasks, method, alpha))
    bar.update()

# %% [markdown]
# Another machine may choose a neighbouring alpha, or see single inputs otherwise: counts are compared loosely.

# %%
results.save("confusion", frame, profile, studies.CONFUSION_COLUMNS, tolerances={"inputs": 25.0})
right = frame[frame.true == frame.predicted].groupby("task").inputs.sum() / frame.groupby("task").inputs.sum()
(100 * right).round(1).rename("accuracy (%)").to_frame()

# %% [markdown]
# These accuracies are those of the merged model in `merge.csv`.

# %%
known = chosen[chosen.metric == "accuracy"].set_index("task").value
assert (right - known).abs().max() < 1e-5
print(provenance.versions_line())
