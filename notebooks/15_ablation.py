# %% [markdown]
# # Ablation
#
# TSV-Merge does two things: it keeps few singular components of each task (*low rank*) and makes the tasks' singular
# vectors orthogonal to each other (*interference reduction*). What is each worth alone?
#
# | | |
# |---|---|
# | You learn | what each of the two steps of TSV-M is worth alone, and which of them lets alpha be 1 |
# | Reads | `{merge,sources}.csv` and the experts |
# | Writes | `data/results/<profile>/ablation.csv` |
# | Paper item | Tables 4, 5 and 6 |
# | Run time | mini: 5 to 7 minutes on 2 CPU cores; minilm: about 30 minutes; smoke: seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: which models and tasks
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all
alpha = 0.0  # the alpha of both steps; 0: the best one on validation inputs

# %%
from dataclasses import replace

import pandas as pd

from compendium import profiles, provenance
from compendium.paper import claims, results, tables
from compendium.study import runs, studies
from tsvlib.methods import UPDATES

# %% [markdown]
# ## One step at a time
#
# Low rank alone keeps one over the number of tasks of the components and adds them up. Interference reduction alone
# keeps all of them; since they outnumber the dimensions, the closest matrix with orthonormal rows takes their place.
# Alpha is chosen as in notebook 13, from the grid of task arithmetic and from that of TSV-M, unless a
# parameter states one.

# %%
methods = [UPDATES[name] for name in ("low_rank", "interference_reduction")]
methods = [replace(method, alphas=(alpha,)) if alpha else method for method in methods]
pd.DataFrame(
    [(m.title, min(m.alphas), max(m.alphas), len(m.alphas)) for m in methods],
    columns=["method", "from", "to", "alphas"],
).round(3)

# %% [markdown]
# ## Every suite and backbone
#
# The first seed only, which was fixed beforehand.

# %%
settings = profiles.load(profile, backbones, suites).first_seeds()
rows = []
for run, n_tasks in runs.cells(settings, "merging"):
    for method in methods:
        rows += studies.merge(run, n_tasks, method)

# %% [markdown]
# Rows are those of notebook 13, and so are their tolerances.

# %%
frame = pd.DataFrame(rows)
results.save("ablation", frame, profile, studies.COLUMNS, tolerances=studies.SEARCH)
tables.means(frame, "alpha").round(2)

# %% [markdown]
# ## Do the two complement each other?
#
# Neither step is task arithmetic, both are TSV-M; notebook 13 measured them with the same experts. Mean normalised
# accuracy in percent:

# %%
merged = results.load("merge", profile)
first = pd.DataFrame([(b.name, b.seeds[0]) for b in settings.backbones], columns=["backbone", "seed"])
beside = merged[merged.n_tasks.isin(settings.suites)].merge(first)
whole = tables.means(pd.concat([beside, frame]), "normalised_accuracy")
shown = (100 * whole[["zero_shot", "task_arithmetic", "low_rank", "interference_reduction", "tsv_m"]]).round(1)
shown

# %% [markdown]
# By the rule of the ledger (notebook 41), which was fixed before the first measurement and is about chosen alphas:

# %%
found = {"ablation": frame, "merge": merged, "sources": results.load("sources", profile)}
print(f"Not judged: alpha = {alpha}" if alpha else claims.told("complementary", found))

# %% [markdown]
# That is a result. What must hold is that no cell is missing.

# %%
assert len(shown) == len(settings.backbones) * len(settings.suites)
assert shown.notna().all(axis=None)
assert set(frame.seed) == set(first.seed)
print(provenance.versions_line())

# %% [markdown]
# ## Try
#
# Change the cell of parameters and run all cells again, or type a line such as the next one. Either writes into `build`
# alone. A part by `backbones` or `suites` that is run so rests on tables of its own: run notebooks 10 and 13 with
# it first.
#
# ```
# python -m compendium run notebooks/15_ablation.py -p alpha=1
# ```
#
# 1. `alpha = 1.0`: which of the two steps makes it safe to do without a search? The other one falls; below the
#    zero-shot model?
# 2. `alpha = 0.3`, which suits task arithmetic: which step loses most against the alpha that is best for it, and what
#    does that say about the length of its update?
