# %% [markdown]
# # Beyond the paper: who leads, and what it takes
#
# Every method on every backbone and suite, compared with TSV-M at alpha = 1 on the same inputs; and what each of them
# is shown, stores and costs.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/{beyond,sources}.csv`, `data/results/<profile>/measured/seconds.csv` |
# | Writes | `figures/<profile>/{beyond,beyond_costs}.{csv,md,tex}` |
# | Paper item | none (Table 2 with what came later) |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: whose results are printed
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
from compendium import profiles, provenance
from compendium.paper import leads, results, tables

# %% [markdown]
# ## Accuracy
#
# Means over tasks with their standard errors; one seed of fine-tuning. A plus stands where a method is surely ahead of
# TSV-M with alpha = 1, a minus where it is surely behind: the draws are paired, and corrected for the number of
# comparisons.

# %%
settings = profiles.load(profile, backbones, suites).first_seeds()
frame, sources = results.load("beyond", profile), results.load("sources", profile)
found = leads.against(frame, sources)
table = leads.accuracy_table(frame, sources, settings)
table.T

# %% [markdown]
# The most accurate model for all tasks in each column is marked; models for single tasks store more and take no part.

# %%
stored = leads.costs(frame, results.load("measured/seconds", profile))
one = stored.bytes <= 1.001 * stored.bytes.groupby(["backbone", "n_tasks"]).transform("min")
merged = {name: leads.named(frame)[name] for name in one[one].index.unique("method")}
best = tables.best(frame, settings, merged)
caption = (
    f"All methods on {settings.title}: {tables.CELLS}; + and - mark what is surely ahead of or behind TSV-M with "
    f"alpha = 1. {leads.told(found)} {tables.sampling(sources)} One seed of fine-tuning. What needs labels, and has no "
    '"alpha = 1" in its name, has its alpha chosen on validation inputs from every third value of its grid. † marks '
    f"the best model for all tasks.{results.stated('beyond', profile)}{profiles.left_out(settings)}"
)
results.save_table("beyond", table, profile, caption, best=best)

# %% [markdown]
# How far each lies ahead, as a mean over all settings in points of normalised accuracy, and in how many of them surely:

# %%
counts = found.groupby("method", sort=False).agg(
    lead=("lead", "mean"), ahead=("ahead", "sum"), behind=("behind", "sum")
)
counts.sort_values("lead", ascending=False).round(2).rename(index=tables.TITLES)

# %% [markdown]
# ## What it takes
#
# In the largest suite: validation inputs that are shown, and of how many the label is told; the alpha; megabytes of
# float32 values; and seconds with each backbone. Seconds were measured once, on a machine that did nothing else.

# %%
last, n_tasks = settings.backbones[-1], settings.suites[-1]
costs = leads.cost_table(stored, settings, last.name, n_tasks)
caption = (
    f"What methods take, {n_tasks} tasks of {settings.title}: validation inputs and labels, the alpha, and what is "
    f"stored with {last.label}; wall-clock seconds from task vectors with every backbone, measured once, with what is "
    "measured on inputs and without the choice of an alpha or a lambda. What trains at test time was run on the first "
    f"suite alone.{profiles.left_out(settings)}"
)
results.save_table("beyond_costs", costs, profile, caption)
costs

# %% [markdown]
# What must hold is that every method that was measured has its costs, and that labels are never more than inputs.

# %%
assert stored.drop(columns=["alpha"]).notna().all(axis=None)
assert (stored.labels <= stored.inputs).all()
assert len(table) == frame.method.nunique()
print(provenance.versions_line())
