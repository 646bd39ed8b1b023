# %% [markdown]
# # How long each method takes
#
# Wall-clock seconds from task vectors to what a method makes of them, one method after the other, on a machine that
# does nothing else.
#
# | | |
# |---|---|
# | Reads | the experts |
# | Writes | `data/results/<profile>/measured/seconds.csv` |
# | Paper item | none (`make beyond`) |
# | Run time | mini: 12 to 16 minutes on 2 CPU cores; minilm: 38 minutes; smoke: a minute |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: which models and tasks
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import results
from compendium.study import beyond, runs, timing

# %% [markdown]
# ## What counts
#
# Task vectors are in memory where they fit, and no decomposition comes from the store. What Fisher merging, RegMean and
# ESM are told counts: the first task is measured anew, and its time is taken for that of every task, since all have as
# many inputs. The choice of an alpha or a lambda does not count: it takes as many inputs as notebook 60 states,
# whatever the method. Merging uses all CPUs, measuring one.
#
# Times differ from run to run, so this table is apart from those that the same machine makes with the same bytes:
# `make verify` does not compare it. Its sidecar says what it was measured on.

# %%
settings = profiles.load(profile, backbones, suites).first_seeds()
rows = []
for run, n_tasks in runs.cells(settings, "timing"):
    slow = beyond.ADAPTED if n_tasks == settings.suites[0] else ()
    rows += [timing.seconds(run, n_tasks, name) for name in (*beyond.MERGED, *beyond.PACKED, *slow)]

# %% [markdown]
# ## Seconds

# %%
frame = pd.DataFrame(rows)
results.save("measured/seconds", frame, profile, timing.COLUMNS)
frame.pivot_table(index="method", columns=["backbone", "n_tasks"], values="value").round(2)

# %% [markdown]
# Where two methods do the same work, as TSV-M with and without the choice of alpha, the difference is what a single
# measurement leaves to chance:

# %%
pairs = frame[frame.method.isin(["tsv_m", "tsv_m_alpha_1"])]
pairs.pivot_table(index=["backbone", "n_tasks"], columns="method", values="value").round(2)

# %% [markdown]
# What must hold is that every method was timed.

# %%
methods = len(beyond.MERGED) + len(beyond.PACKED)
assert len(frame) == len(settings.backbones) * (len(settings.suites) * methods + len(beyond.ADAPTED))
assert (frame.value > 0).all()
print(provenance.versions_line())
