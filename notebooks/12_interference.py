# %% [markdown]
# # How much tasks disturb each other
#
# Adding up task matrices mixes directions that different tasks use. *Singular task interference* measures how
# much, matrix by matrix; the *Procrustes error* measures how far the tasks' singular vectors are from being
# orthogonal to each other, which is the price of making them so.
#
# | | |
# |---|---|
# | Reads | `checkpoints.csv` and the experts |
# | Writes | `data/results/<profile>/interference.csv`, `data/results/<profile>/procrustes.csv` |
# | Paper item | Figures 5, 6 and 14; Equation 6, Theorem 6.1 |
# | Run time | mini: about 2 minutes on 2 CPU cores; smoke: seconds |

# %% tags=["parameters"]
profile = "mini"  # smoke or mini: which models and tasks
further_seeds = 0  # how many seeds per backbone beyond those of the profile

# %%
import pandas as pd

from tsvlib import interference, profiles, progress, provenance, results, studies

# %% [markdown]
# ## Every matrix of every run
#
# Interference takes all singular components of all tasks. The paper leaves open which norm Equation 6 means, so both
# are kept: the sum of all absolute entries and the operator norm. Procrustes errors are those of the smallest suite, as
# in the paper, once with all components and once with the share that TSV-M keeps.

# %%
settings = profiles.load(profile).with_further_seeds(further_seeds)
scores, errors = [], []
with progress.track(2 * sum(len(b.seeds) for b in settings.backbones), "measuring interference") as bar:
    for run in studies.runs(settings):
        scores += interference.of_suites(run, settings.suites)
        bar.update()
        errors += interference.procrustes_errors(run, settings.suites[0])
        bar.update()

# %% [markdown]
# Both are sums over singular values of float32 weights; machines may differ in the last digits.

# %%
frame = pd.DataFrame(scores)
exact = {"value": 1e-3 * float(frame.value.max())}
results.save("interference", frame, profile, interference.INTERFERENCE_COLUMNS, tolerances=exact)
distance = pd.DataFrame(errors)
results.save("procrustes", distance, profile, interference.ERROR_COLUMNS, tolerances={"error": 0.05})
frame.head()

# %% [markdown]
# ## With depth and with the number of tasks
#
# Sums over the matrices of a layer (-1: those outside the layers), mean over seeds, entrywise norm. The paper finds
# that early layers interfere most.

# %%
entrywise = frame[frame.norm == "entrywise"]
sums = entrywise.groupby(["backbone", "layer", "n_tasks", "seed"], as_index=False).value.sum()
sums.pivot_table(index=["backbone", "layer"], columns="n_tasks", values="value").round(0)

# %% [markdown]
# The rule, fixed before the first measurement: interference falls with depth if, in the largest suite, the last layer
# interferes less than the first in every seed of a backbone.

# %%
most = sums[(sums.n_tasks == settings.suites[-1]) & (sums.layer >= 0)]
for backbone, rows in most.groupby("backbone"):
    layers = rows.pivot_table(index="seed", columns="layer", values="value")
    ratio = layers.iloc[:, -1] / layers.iloc[:, 0]
    word = "falls" if (ratio < 1).all() else "rises" if (ratio > 1).all() else "is undecided"
    print(
        f"{backbone}: last layer / first layer {ratio.min():.2f} to {ratio.max():.2f}: interference {word} with depth"
    )

# %% [markdown]
# A rule can be met by a narrow margin: on mini the layers differ by a few percent, and in the smallest suite the last
# one interferes as much as the first. The steep fall of Figure 6 needs deeper models than these.
#
# ## Low rank brings tasks closer to orthogonality
#
# Theorem 6.1 bounds the distance for square blocks: whole factors must move farther than truncated ones. Measured
# here, in every matrix:

# %%
key = ["backbone", "seed", "layer", "matrix", "vectors"]
both = distance.pivot_table(index=key, columns="rank", values="error")
print(f"truncated factors are closer to orthogonal in {(both.low < both.full).sum()} of {len(both)} cases")
both.groupby(level=["backbone", "vectors"]).mean().round(2)

# %% [markdown]
# Nothing may be negative, and more tasks interfere more.

# %%
assert (frame.value >= 0).all()
assert (distance.error >= 0).all()
growth = entrywise.pivot_table(index="backbone", columns="n_tasks", values="value", aggfunc="sum")
assert (growth.diff(axis=1).iloc[:, 1:] > 0).all(axis=None)
print(provenance.versions_line())
