# %% [markdown]
# # How much tasks disturb each other
#
# Adding up task matrices mixes directions that different tasks use. *Singular task interference* measures how much,
# matrix by matrix; the *Procrustes error* measures how far the tasks' singular vectors are from being orthogonal to
# each other, which is the price of making them so.
#
# | | |
# |---|---|
# | Reads | `checkpoints.csv` and the experts |
# | Writes | `data/results/<profile>/interference.csv`, `data/results/<profile>/procrustes.csv` |
# | Paper item | Figures 5, 6 and 14; Equation 6, Theorem 6.1 |
# | Run time | mini: about 1 minute on 2 CPU cores; smoke: seconds |

# %% tags=["parameters"]
profile = "mini"  # smoke or mini: which models and tasks
further_seeds = 0  # how many seeds per backbone beyond those of the profile

# %%
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import claims, results
from compendium.study import interference, runs
from tsvlib import progress

# %% [markdown]
# ## Every matrix of every run
#
# Interference is measured with all singular components of all tasks, which task arithmetic adds up, and with the
# share that TSV-M keeps before it orthogonalises (afterwards there is none, see notebook 42). The paper leaves open
# which norm Equation 6 means, so both are kept: the sum of all absolute entries and the operator norm. Procrustes
# errors are those of the smallest suite, as in the paper, once with all components and once with the share that TSV-M
# keeps.

# %%
settings = profiles.load(profile).with_further_seeds(further_seeds)
scores, errors = [], []
with progress.track(2 * sum(len(b.seeds) for b in settings.backbones), "measuring interference") as bar:
    for run in runs.of(settings):
        scores += interference.of_suites(run, settings.suites)
        bar.update()
        errors += interference.procrustes_errors(run, settings.suites[0])
        bar.update()

# %% [markdown]
# Tolerances follow the size of each value. Experts that differ by 0.0006 in norm, as those of another machine do,
# change none by more than 0.05 %.

# %%
frame, distance = pd.DataFrame(scores), pd.DataFrame(errors)
columns, zero = interference.INTERFERENCE_COLUMNS, {"value": 0.0}
results.save("interference", frame, profile, columns, tolerances=zero, relative=1e-3)
results.save("procrustes", distance, profile, interference.ERROR_COLUMNS, tolerances={"error": 0.0}, relative=1e-3)
frame.head()

# %% [markdown]
# ## With depth and with the number of tasks
#
# Sums over the matrices of a layer (-1: those outside the layers), mean over seeds, all components, entrywise norm.
# The paper finds that early layers interfere most.

# %%
entrywise = frame[(frame.metric == "entrywise") & (frame["rank"] == "full")]
sums = entrywise.groupby(["backbone", "layer", "n_tasks", "seed"], as_index=False).value.sum()
sums.pivot_table(index=["backbone", "layer"], columns="n_tasks", values="value").round(0)

# %% [markdown]
# Interference of the last layer relative to the first, in the largest suite, as the ledger of claims measures it:
# below one it falls with depth.

# %%
claims.depth({"interference": frame}).values.round(2)

# %% [markdown]
# A rule can be met by a narrow margin: on mini the layers differ by a few percent, and in the smallest suite the last
# one interferes as much as the first. The steep fall of Figure 6 needs deeper models than these.
#
# ## Low rank brings tasks closer to orthogonality
#
# Theorem 6.1 bounds the distance for square blocks: whole factors must move farther than truncated ones. Measured
# here, in every matrix, as the error of truncated factors relative to whole ones:

# %%
ratio = claims.closer({"procrustes": distance})
print(f"truncated factors are closer to orthogonal in {ratio.true.sum()} of {len(ratio.true)} cases")
ratio.values.groupby(level=["backbone", "vectors"]).mean().round(2)

# %% [markdown]
# Nothing may be negative, and more tasks interfere more.

# %%
assert (frame.value >= 0).all()
assert (distance.error >= 0).all()
growth = entrywise.pivot_table(index="backbone", columns="n_tasks", values="value", aggfunc="sum")
assert (growth.diff(axis=1).iloc[:, 1:] > 0).all(axis=None)
print(provenance.versions_line())
