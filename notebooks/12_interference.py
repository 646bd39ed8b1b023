# %% [markdown]
# # How much tasks disturb each other
#
# Adding up task matrices mixes directions that different tasks use. *Singular task interference* measures how much,
# matrix by matrix; the *Procrustes error* measures how far the tasks' singular vectors are from being orthogonal to
# each other, which is the price of making them so.
#
# | | |
# |---|---|
# | You learn | what Equation 6 measures, how much of it each step of TSV-M leaves, what Theorem 6.1 can say |
# | Reads | `checkpoints.csv` and the experts |
# | Writes | `data/results/<profile>/interference.csv`, `data/results/<profile>/procrustes.csv` |
# | Paper item | Figures 5, 6 and 14; Equation 6, Theorem 6.1 |
# | Run time | mini: 3 to 4 minutes on 2 CPU cores; minilm: about 12 minutes; smoke: seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: which models and tasks
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all
norm = "entrywise"  # entrywise or induced: in which norm interference is shown
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
# With the singular vectors of all tasks side by side in U and V, Equation 6 is the norm of (UᵀU - I) Σ (VᵀV - I). The
# paper leaves open which norm it means, so two are kept: the sum of all absolute entries, and the induced 1-norm, which
# is the largest sum of absolute entries in a column.
#
# TSV-M takes two steps, and the ablation of notebook 15 merges with none, with one and with both of them. Interference
# is measured for these four forms, each time of what the form adds up, with the vectors as it leaves them:
#
# | Form | What is added up | Method |
# |---|---|---|
# | `none` | all components of every task | task arithmetic |
# | `low_rank` | the first one over the number of tasks of them | low rank only |
# | `interference_reduction` | all of them, vectors orthogonalised across tasks | interference reduction only |
# | `both` | the first of them, vectors orthogonalised across tasks | TSV-M |
#
# All vectors of T tasks are more than a square matrix has dimensions. They cannot be orthonormal, UᵀU cannot be I, and
# interference reduction alone leaves a part. The share that TSV-M keeps has room, and orthogonalised it has nothing in
# common but rounding. A matrix with fewer components than tasks, such as the positions of a model with few patches, is
# averaged by the method, so that its last three forms are one.
#
# Procrustes errors are those of the smallest suite, as in the paper, once with all components and once with the share
# that TSV-M keeps. Beside each stands the error of random orthonormal blocks of the same shapes: how far from
# orthogonal to each other tasks are that have nothing to do with each other.

# %%
settings = profiles.load(profile, backbones, suites).with_further_seeds(further_seeds)
interference.check_norm(norm)
scores, errors = [], []
with progress.track(2 * sum(len(b.seeds) for b in settings.backbones), "measuring interference") as bar:
    for run in runs.of(settings):
        scores += interference.of_suites(run, settings.suites)
        bar.update()
        errors += interference.procrustes_errors(run, settings.suites[0])
        bar.update()

# %% [markdown]
# Tolerances follow the size of each value. Experts that differ by 0.0006 in norm, as those of another machine do,
# change none by more than 0.05 %. What is below 0.0001 is rounding.

# %%
frame, distance = pd.DataFrame(scores), pd.DataFrame(errors)
columns, small, exact = interference.INTERFERENCE_COLUMNS, {"value": 1e-4}, {"error": 0.0, "chance": 0.0}
results.save("interference", frame, profile, columns, tolerances=small, relative=1e-3)
results.save("procrustes", distance, profile, interference.ERROR_COLUMNS, tolerances=exact, relative=1e-3)
frame.head()

# %% [markdown]
# ## What each step leaves
#
# Sums over all matrices, mean over seeds, in the norm of the parameters, as shares of what task arithmetic adds up. Low
# rank leaves less because it adds up less, whether it helps or not; notebook 27 sets these numbers against accuracies.

# %%
measured = frame[frame.metric == norm]
by_form = measured.pivot_table(index=["backbone", "n_tasks"], columns="form", values="value", aggfunc="sum")
shares = by_form.div(by_form.none, axis=0)[["none", "low_rank", "interference_reduction", "both"]]
shares.map("{:.2g}".format)

# %% [markdown]
# ## With depth and with the number of tasks
#
# Sums over the matrices of a layer (-1: those outside the layers), mean over seeds, all components.

# %%
none = measured[measured.form == "none"]
sums = none.groupby(["backbone", "layer", "n_tasks", "seed"], as_index=False).value.sum()
sums.pivot_table(index=["backbone", "layer"], columns="n_tasks", values="value").round(0)

# %% [markdown]
# The paper finds that early layers interfere most. In each backbone and suite, the rank correlation of a layer's number
# with its interference, always in the entrywise norm: -1 if it falls from each layer to the next, 1 if it rises. It
# tells whether there is a trend, not how steep it is, and among three or four layers it takes few values.

# %%
tables = {"interference": frame, "procrustes": distance}
print(claims.told("depth", tables))
depth = claims.judge(["depth"], tables)["depth"].cases.reset_index()
depth.pivot_table(index="backbone", columns="n_tasks", values="number").round(2)

# %% [markdown]
# ## Does low rank bring tasks closer to orthogonality?
#
# Theorem 6.1 bounds the distance of square blocks: whole factors must move farther than truncated ones. That can hardly
# be otherwise, because T orthogonal n x n blocks are n T vectors in n dimensions, whatever they are, and their error is
# sqrt(n) (sqrt(T) - 1). So the question that can be answered with no is another one: are truncated factors closer to
# orthogonality than random orthonormal blocks of their shape? Their error relative to that of random ones:

# %%
print(claims.told("orthogonality", tables))
distance.assign(ratio=distance.error / distance.chance).pivot_table(
    index=["backbone", "vectors"], columns="rank", values="ratio"
).round(2)

# %% [markdown]
# Below one, the first directions of the tasks are closer to orthogonal than chance makes them. Above one, tasks share
# more of them than unrelated tasks would, and orthogonalising has to move them farther.
#
# Nothing may be negative, TSV-M leaves nothing where it orthogonalises, and more tasks interfere more.

# %%
assert (frame.value >= 0).all()
assert (distance[["error", "chance"]] >= 0).all(axis=None)
assert (shares.both < 1e-3).all()
growth = none.pivot_table(index="backbone", columns="n_tasks", values="value", aggfunc="sum")
assert (growth.diff(axis=1).iloc[:, 1:] > 0).all(axis=None)
print(provenance.versions_line())

# %% [markdown]
# ## Try
#
# Change the cell of parameters and run all cells again, or type a line such as the next one. Either writes into `build`
# alone.
#
# ```
# python -m compendium run notebooks/12_interference.py -p norm=induced
# ```
#
# 1. `norm = "induced"`: do the shares that each step leaves change with the norm? Does one layer still stand out?
# 2. `suites = "20"`: Procrustes errors are then those of twenty tasks. Are their truncated vectors still closer to
#    orthogonality than chance, and in which backbone is it closest to call?
