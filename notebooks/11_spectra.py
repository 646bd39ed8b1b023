# %% [markdown]
# # Task matrices are low-rank
#
# The paper's first claim: of what fine-tuning changes in a layer, a small share of the singular components carries
# nearly all of the task. Here every expert is rebuilt from its leading components and measured again.
#
# | | |
# |---|---|
# | You learn | how few directions of a layer hold what fine-tuning taught it, and how to count them |
# | Reads | `{checkpoints,sources}.csv` and the experts |
# | Writes | `data/results/<profile>/spectra.csv` |
# | Paper item | Figure 2 (and 11, 12 for the other backbones) |
# | Run time | mini: 4 to 6 minutes on 2 CPU cores; minilm: about 20 minutes; smoke: seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: which models and tasks
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all
percents = ""  # further shares of the components to measure, in percent, such as 4, 15; empty: none
further_seeds = 0  # how many seeds per backbone beyond those of the profile

# %%
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import claims, results
from compendium.study import lowrank, runs
from tsvlib import progress

# %% [markdown]
# ## Rebuild and measure
#
# Each task matrix is decomposed once. For every share of components, the leading ones are multiplied back and added
# to the base; parameters that are not matrices keep their fine-tuned values. A share is rounded to the nearest number
# of components, which the table states, and at least one is always kept. The row with 100 % is the expert itself.

# %%
settings = profiles.load(profile, backbones, suites).with_further_seeds(further_seeds)
shares, rows = lowrank.fractions(settings, percents), []
with progress.track(settings.tasks * sum(len(b.seeds) for b in settings.backbones), "low-rank experts") as bar:
    for run in runs.of(settings):
        for task in run.tasks(settings.tasks):
            rows += lowrank.curve(run, task, shares)
            bar.update()

# %% [markdown]
# The table tells how many components each share is, in task matrices of each size.

# %%
frame = pd.DataFrame(rows)
checkpoints = results.load("checkpoints", profile)
results.save("spectra", frame, profile, lowrank.COLUMNS)
frame.pivot_table(index="percent", columns="backbone", values="components", aggfunc="first")

# %% [markdown]
# ## What is kept
#
# The mean accuracy over all tasks (and seeds) at each share, relative to the experts themselves.

# %%
mean = frame.pivot_table(index="backbone", columns="percent", values="accuracy")
kept = mean.div(mean[100], axis=0)
(100 * kept).round(1)

# %% [markdown]
# The abstract's claim and that of Section 3.2, with the rules of the ledger (notebook 41).

# %%
found = {"spectra": frame, "sources": results.load("sources", profile)}
print(f"A tenth of the components: {claims.told('low_rank_10', found)}")
print(f"3 % of the components: {claims.told('low_rank_3', found)}")

# %% [markdown]
# Experts measured here must be those of notebook 10. The ledger's rule for a tenth of the components asks for 99 % of
# the accuracy and gives a verdict. The 95 % below give none: with less, something must be broken, so the build stops.

# %%
keys = ["backbone", "seed", "task"]
individual = checkpoints[checkpoints.method == "individual"].set_index(keys).value
assert (frame[frame.percent == 100].set_index(keys).accuracy - individual).dropna().abs().max() < 1e-5
assert not settings.assert_claims or (kept[10] >= 0.95).all(), "10 % of the components keep less than 95 %"
print(provenance.versions_line())

# %% [markdown]
# ## Try
#
# Change the cell of parameters and run all cells again, or type a line such as the next one. Either writes into `build`
# alone. A part by `backbones` or `suites` that is run so rests on tables of its own: run notebook 10 with it first.
#
# ```
# python -m compendium run notebooks/11_spectra.py -p percents=4,7
# ```
#
# 1. `percents`: find the smallest whole percent at which every backbone keeps 99 % of its accuracy. How many components
#    of a matrix are that?
# 2. `suites = "8"`: are the first eight tasks easier to keep at 1 % than all twenty? Compare the table under *What is
#    kept*.
