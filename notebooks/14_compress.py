# %% [markdown]
# # Compression
#
# Instead of one merged model, TSV-Compress stores every expert as the leading singular components of its task
# matrices: one over the number of tasks, so that all experts together take about as much room as one or two models.
# TALL-Mask + TIES, with which the paper compares it, stores one update for all experts and one bit per weight for each.
# So do TALL masks of the sum of task vectors and EMR-Merging, of which only the bytes are counted here (for Table 1).
#
# | | |
# |---|---|
# | You learn | how far experts can be compressed, what that costs, and what to compare at the same number of bytes |
# | Reads | `{checkpoints,sources}.csv` and the experts |
# | Writes | `data/results/<profile>/compress.csv` |
# | Paper item | Table 3 |
# | Run time | mini: 4 to 6 minutes on 2 CPU cores; minilm: about 18 minutes; smoke: seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: which models and tasks
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all
rank = ""  # how much TSV-C keeps, a share such as 1/4 or a number such as 8; empty: one over the number of tasks
further_seeds = 0  # how many seeds per backbone beyond those of the profile

# %%
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import claims, results, tables
from compendium.study import runs, studies
from tsvlib.compression import Rank

# %% [markdown]
# ## Compress and measure
#
# For TSV-C nothing is chosen: the share of components follows from the number of tasks, and alpha is 1. TALL-Mask +
# TIES takes alpha = 1 too, and for each task the lambda of a few whose mask is best on the task's validation inputs.

# %%
settings = profiles.load(profile, backbones, suites).with_further_seeds(further_seeds)
kept, rows = Rank.parse(rank) if rank else None, []
for run, n_tasks in runs.cells(settings, "compressing"):
    rows += studies.compressed(run, n_tasks, kept) + studies.masked(run, n_tasks)
    if run.seed == run.evaluator.backbone.seeds[0]:
        rows += studies.room(run, n_tasks)

# %% [markdown]
# Bytes count the values of all task vectors of a suite as they are stored: whole or as factors in float32, or as one
# update in float32 and packed bits. Their tolerance is zero. Another machine may choose another lambda where the score
# is flat, and then other inputs are right.

# %%
frame = pd.DataFrame(rows)
checkpoints = results.load("checkpoints", profile)
loose = {"bytes": 0, "lambda": 0.4, "hits": studies.SEARCH["hits"]}
results.save("compress", frame, profile, studies.COLUMNS, tolerances=loose)
(100 * tables.means(frame, "normalised_accuracy")).round(2)

# %% [markdown]
# ## Room
#
# The size of all compressed task vectors in percent of the whole ones.

# %%
size = tables.means(frame, "bytes")
share = size.drop(columns="individual").div(size.individual, axis=0)
(100 * share).round(1)

# %% [markdown]
# ## Verdict
#
# TSV-C keeps about 99 % of the experts' accuracy in the paper. By the rule of the ledger (notebook 41), for the paper's
# rank:

# %%
found = {"compress": frame, "sources": results.load("sources", profile)}
print(f"Not judged: rank {kept}" if kept else claims.told("compression", found))

# %% [markdown]
# What must hold: compressed as in the paper, experts are smaller; and the references are those of notebook 10.

# %%
whole = frame[(frame.method == "individual") & (frame.metric == "accuracy")]
known = checkpoints[checkpoints.method == "individual"].set_index(["backbone", "seed", "task"]).value
assert (whole.set_index(["backbone", "seed", "task"]).value - known).dropna().abs().max() < 1e-5
assert kept or not settings.assert_claims or (share < 1).all(axis=None), (
    "compressed experts take more room than whole ones"
)
print(provenance.versions_line())

# %% [markdown]
# ## Try
#
# Change the cell of parameters and run all cells again, or type a line such as the next one. Either writes into `build`
# alone. A part by `backbones` or `suites` that is run so rests on tables of its own: run notebook 10 with it first.
#
# ```
# python -m compendium run notebooks/14_compress.py -p rank=1/4
# ```
#
# 1. `rank`: find one at which TSV-C takes as much room as TALL-Mask + TIES with eight tasks. Which of the two keeps
#    more accuracy there?
# 2. `rank = "1/2"`: which backbones save nothing any more, and why? (A matrix of d x m takes d m numbers, its k
#    components k (d + m + 1).)
