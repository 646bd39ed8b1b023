# %% [markdown]
# # Merging
#
# One model for many tasks: experts are merged by averaging, by task arithmetic, by Consensus TA and by TSV-Merge, in
# suites of growing size and for every backbone and seed. TIES and Iso-C, which the paper's Table 2 does not have, join
# with the first seed.
#
# | | |
# |---|---|
# | You learn | what TSV-M gains over averaging and adding up, what a search of alpha costs, and what a lead is worth |
# | Reads | `{checkpoints,sources}.csv` and the experts |
# | Writes | `data/results/<profile>/merge.csv` |
# | Paper item | Table 2 and Figure 1 |
# | Run time | mini: 14 to 20 minutes on 2 CPU cores; minilm: about 80 minutes; smoke: seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: which models and tasks
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all
further_methods = ""  # methods to merge by besides, such as tsv_m_eigen, iso_cts; empty: none
further_seeds = 0  # how many seeds per backbone beyond those of the profile

# %%
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import claims, results, tables
from compendium.study import comparing, runs, studies
from tsvlib.methods import UPDATES, named

# %% [markdown]
# ## The methods
#
# A method turns the task vectors of a suite into one update; the merged weights are base + alpha * update. Alpha is
# chosen from the method's grid by the mean normalised accuracy on *validation* inputs. The search climbs from small
# alphas and needs at most ten of the thirty values. Test inputs are used once, for the chosen alpha. Consensus TA has a
# lambda for each task besides, which says how much of the sum a task wants; the best of a few on the task's validation
# inputs. TSV-M is measured twice: also with alpha = 1, which the paper recommends and which needs no labels.

# %%
methods = [UPDATES[name] for name in ("weight_averaging", "task_arithmetic")]
once = [UPDATES[name] for name in ("ties", "iso_c")]
once += comparing.further(further_methods, ["consensus_ta", "tsv_m", *(m.name for m in methods + once)])
pd.DataFrame(
    [
        (m.title, min(m.alphas), max(m.alphas), len(m.alphas))
        for m in [*methods, named("consensus_ta"), named("tsv_m"), *once]
    ],
    columns=["method", "from", "to", "alphas"],
).round(3)

# %% [markdown]
# ## Merge every suite
#
# Between two references: the zero-shot model (nothing learnt) and the individual experts (one model per task).

# %%
settings = profiles.load(profile, backbones, suites).with_further_seeds(further_seeds)
rows = []
for run, n_tasks in runs.cells(settings, "merging"):
    rows += studies.references(run, n_tasks) + studies.consensus(run, n_tasks) + studies.tsv_merge(run, n_tasks)
    for method in methods + once * (run.seed == run.evaluator.backbone.seeds[0]):
        rows += studies.merge(run, n_tasks, method)

# %% [markdown]
# Rows hold the test accuracy of every task and which inputs were right, the mean normalised accuracy, and for each
# search the alpha, its score on validation inputs and the number of alphas that were tried. Another machine may choose
# a neighbouring alpha or another lambda where the score is flat, so these, counts and single inputs are compared
# loosely.

# %%
frame = pd.DataFrame(rows)
checkpoints = results.load("checkpoints", profile)
loose = studies.SEARCH | {"lambda": 0.4}
results.save("merge", frame, profile, studies.COLUMNS, tolerances=loose)
(100 * tables.means(frame, "normalised_accuracy")).round(1)

# %% [markdown]
# ## The alphas
#
# Chosen alphas lie inside their grid unless a method wants more (or less) than it may have.

# %%
tables.means(frame, "alpha").round(2).join(tables.means(frame, "lambda").round(2), rsuffix=", mean lambda")

# %% [markdown]
# Averaging is task arithmetic with alpha = 1/T. Wherever it is ahead on test inputs, the validation inputs were too
# few to tell a good alpha for task arithmetic from a poor one. By so many points it is:

# %%
means = 100 * tables.means(frame, "normalised_accuracy")
ahead = means.weight_averaging - means.task_arithmetic
ahead[ahead > 0].round(1).rename("averaging ahead").to_frame()

# %% [markdown]
# ## Does TSV-M lead?
#
# The paper's claim is that TSV-M is ahead of task arithmetic and of Consensus TA in every setting. The rule of the
# ledger (notebook 41) was fixed before any model was merged by the method in question.

# %%
others = ("task_arithmetic", "consensus_ta")
found = {"merge": frame, "sources": results.load("sources", profile)}
for name in others:
    print(f"Ahead of {UPDATES[name].title}: {claims.told(name, found)}")
leads = pd.DataFrame({UPDATES[name].title: case.cases.number for name, case in claims.judge(others, found).items()})
leads.round(1).rename_axis(columns="TSV-M's lead over")

# %% [markdown]
# The verdict is a result, not a condition. What must hold is that nothing is missing and that the references are the
# measurements of notebook 10.

# %%
keys = ["backbone", "seed", "task", "method"]
largest = frame[(frame.n_tasks == max(settings.suites)) & (frame.metric == "accuracy")].set_index(keys).value
assert leads.notna().all(axis=None)
assert len(leads) == len(settings.backbones) * len(settings.suites)
assert (largest - checkpoints.set_index(keys).value).dropna().abs().max() < 1e-5
assert frame.value.notna().all()
print(provenance.versions_line())

# %% [markdown]
# ## Try
#
# Change the cell of parameters and run all cells again, or type a line such as the next one. Either writes into `build`
# alone. A part by `backbones` or `suites` that is run so rests on tables of its own: run notebook 10 with it first.
#
# ```
# python -m compendium run notebooks/13_merge.py -p further_methods=tsv_m_eigen -p backbones=mini-b32 -p suites=8
# ```
#
# 1. `further_methods = "tsv_m_eigen"`: Proposition 4.1 says that whitening gives the same model. Are accuracy and
#    chosen alpha the same, and to how many digits?
# 2. `further_methods = "iso_cts, tsv_m_energy"`: one came after the paper, the other spends the same number of
#    components where tasks hold most. Does either lead by more than the errors that Table 2 (notebook 30) states?
