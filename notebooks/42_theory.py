# %% [markdown]
# # Proposition 4.1 and Theorem 6.1 in numbers
#
# What the paper proves, computed: that whitening and the Procrustes solution are one matrix, that keeping few
# components brings tasks closer to orthogonality, and that TSV-M leaves no interference at all.
#
# | | |
# |---|---|
# | Reads | the experts |
# | Writes | `figures/<profile>/theory.{csv,md,tex}` |
# | Paper item | Proposition 4.1, Theorem 6.1, Appendix A |
# | Run time | mini: 15 seconds on 2 CPU cores; minilm: 30 seconds; smoke: seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: whose task matrices are examined
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import results
from compendium.study import runs, theory
from tsvlib import linalg, sti
from tsvlib.methods import tsv

# %% [markdown]
# ## The task matrices
#
# All task matrices of the first backbone in its smallest suite, with all their components, and the share that TSV-M
# keeps.

# %%
settings = profiles.load(profile, backbones, suites)
n_tasks = settings.suites[0]
run = next(runs.of(settings))
whole = {layer.key: layer.factors(min(layer.shape)) for layer in run.changed_matrices(run.tasks(n_tasks))}
kept = {
    key: [linalg.truncate(each, linalg.kept_rank(len(each.s), 1 / n_tasks)) for each in factors]
    for key, factors in whole.items()
}
len(whole)

# %% [markdown]
# ## Proposition 4.1
#
# X (XᵀX)^(-1/2) = P Qᵀ for X = P D Qᵀ. The largest difference between any two entries, in float64, of the tasks' kept
# left and right singular vectors side by side, wherever XᵀX has an inverse. Of the 16 digits of float64, XᵀX loses as
# many as the condition of X has, twice; so a difference of 1e-08 is rounding where some directions nearly coincide.

# %%
sides = {key: theory.sides(factors) for key, factors in kept.items()}
differences = pd.Series([theory.whitening_difference(x) for pair in sides.values() for x in pair]).dropna()
difference = differences.max()
print(f"{difference:.1e}, {len(differences)} of {2 * len(sides)} have an inverse")

# %% [markdown]
# ## Theorem 6.1
#
# For T square orthogonal blocks the error of whole blocks is sqrt(n) (sqrt(T) - 1), and that of their first k columns
# is at most sqrt(n + k T - 2 sqrt(k T)). The theorem follows where the second is at most the first. First random
# blocks:

# %%
random = pd.DataFrame(
    {
        (n, tasks, k): theory.distances(theory.random_blocks(n, [n] * tasks, seed=0), k)._asdict()
        for n, tasks, k in [
            (64, 10, 6),
            (64, 10, 23),
            (64, 10, 40),
            (256, 8, 32),
            (256, 14, 18),
            (256, 20, 12),
            (64, 4, 16),
        ]
    }
).T.rename_axis(["n", "T", "k"])
random

# %% [markdown]
# The condition is sufficient, not necessary: the truncated error can be smaller where nothing is promised. Now the
# short sides of the task matrices, whose blocks are square:

# %%
real = pd.DataFrame(
    {
        key: theory.distances(theory.square_blocks(factors), linalg.kept_rank(len(factors[0].s), 1 / n_tasks))._asdict()
        for key, factors in whole.items()
    }
).T.astype({"applies": bool})
real.astype(dict.fromkeys(real.columns[:4], float)).round(2).reset_index(drop=True)

# %% [markdown]
# ## Interference before and after
#
# TSV-M makes the kept vectors orthonormal across tasks, so UᵀU = I and Equation 6 becomes zero, up to rounding to
# float32. In units of the sum of all kept singular values of a matrix:

# %%
strength = {key: sum(float(f.s.sum()) for f in factors) for key, factors in kept.items()}
before = pd.Series({k: sti.singular_task_interference(f).entrywise / strength[k] for k, f in kept.items()})
after = pd.Series(
    {k: sti.remaining_interference(tsv.orthogonalised(f)).entrywise / strength[k] for k, f in kept.items()}
)
pd.DataFrame({"before": before, "after": after}).describe().loc[["min", "mean", "max"]]

# %% [markdown]
# ## Two tasks of rank one
#
# With singular values of one, and the cosines c and d between their left and right singular vectors, interference is 2
# c d: none when one side is orthogonal, two when both are collinear (Appendix A).

# %%
cosines = [(0.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.6, 0.8), (1.0, 1.0)]
pairs = pd.DataFrame(
    [(c, d, 2 * c * d, sti.singular_task_interference(theory.rank_one_pair(c, d)).entrywise) for c, d in cosines],
    columns=["c", "d", "2 c d", "interference"],
)
pairs

# %% [markdown]
# ## What holds
#
# Each statement with the largest deviation seen, or the number of cases in which it is true.

# %%
held = real[real.applies]
exact = (pairs["2 c d"] - pairs.interference).abs() < 1e-12
gap = pd.concat([(found.full / found.full_formula - 1).abs() for found in (real, random)]).max()
found = {
    "whitening is the Procrustes solution (Prop. 4.1)": f"largest difference {difference:.0e}",
    "error of whole blocks is sqrt(n) (sqrt(T) - 1)": f"largest relative difference {gap:.0e}",
    "error of truncated blocks is within its bound": f"{(real.low <= real.low_bound).sum()} of {len(real)} matrices",
    "truncated error at most the whole one (Thm. 6.1)": f"{(held.low <= held.full).sum()} of {len(held)} matrices",
    "TSV-M leaves no interference": f"at most {after.max():.0e} times the sum of the kept singular values; before "
    f"orthogonalising up to {before.max():.0f} times",
    "two tasks of rank one and strength one interfere by 2 c d": f"{exact.sum()} of {len(exact)} pairs",
}
table = pd.Series(found, name="Found").rename_axis("Statement").to_frame()
results.save_table("theory", table, profile, f"What the paper proves, on {settings.title} and random matrices.")
table

# %% [markdown]
# A proof needs no experiment; that these numbers come out tells that the code computes what the paper means.

# %%
assert (differences < 1e-6).all()
assert gap < 1e-4
assert (held.low <= held.full + 1e-4).all()
assert (random[random.applies.astype(bool)].low <= random[random.applies.astype(bool)].full).all()
assert after.max() < 1e-3 * before.max()
assert exact.all()
print(provenance.versions_line())
