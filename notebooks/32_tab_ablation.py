# %% [markdown]
# # Tables 4 to 6: ablation
#
# Low rank and interference reduction, each alone and both together, here and in the paper.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/{merge,ablation,sources}.csv`, `data/published/ablation.csv` |
# | Writes | `figures/<profile>/ablation.{csv,md,tex}` |
# | Paper item | Tables 4, 5 and 6 |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: whose results are printed
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
import pandas as pd

from compendium import profiles, provenance, published
from compendium.paper import claims, results, tables

# %% [markdown]
# Neither step is task arithmetic and both are TSV-M; these rows are those of the first seed in Table 2. All values are
# mean normalised accuracies in percent, with their standard errors.

# %%
settings = profiles.load(profile, backbones, suites).first_seeds()
first = pd.DataFrame([(b.name, b.seeds[0]) for b in settings.backbones], columns=["backbone", "seed"])
merged, alone = results.load("merge", profile), results.load("ablation", profile)
sources = results.load("sources", profile)
frame = pd.concat([merged.merge(first), alone])
steps = {"task_arithmetic": "no, no", "low_rank": "yes, no", "interference_reduction": "no, yes", "tsv_m": "yes, yes"}
ours = 100 * tables.means(frame, "normalised_accuracy")[list(steps)]
rows = tables.summary(frame, sources).xs("normalised_accuracy", level="metric")
error = 100 * rows.reset_index().pivot_table(index=["backbone", "n_tasks"], columns="method", values="error")
error[list(steps)].round(2).T

# %% [markdown]
# The paper's values for the same backbones and numbers of tasks, where it has them.

# %%
paper = published.load("ablation").pivot_table(index=["backbone", "n_tasks"], columns="method", values="percent")
every = profiles.whole(settings)
columns = [(backbone, n_tasks) for backbone in every.backbones for n_tasks in every.suites]
places = [(backbone.counterpart, n_tasks) for backbone, n_tasks in columns]
theirs = paper.reindex(places)[list(steps)].set_axis(pd.MultiIndex.from_tuples([(b.name, n) for b, n in columns]))
theirs.T

# %% [markdown]
# One table, whose upper half is ours.

# %%
here = ours.reindex(theirs.index)
cells = here.map("{:.1f}".format) + error[list(steps)].reindex(theirs.index).map(" ± {:.1f}".format)
blocks = {"here": cells, "paper": theirs.map("{:.1f}".format)}
rows = {f"{words} ({source})": block[name] for source, block in blocks.items() for name, words in steps.items()}
table = pd.DataFrame(rows).T.replace(["nan", "nan ± nan"], tables.NOT_RUN)
table.columns = [tables.column(backbone.label, n_tasks) for backbone, n_tasks in columns]
table.index.name = "Low rank, interference reduction"
table.T

# %% [markdown]
# The best of each column is marked, and compared with the others on the same inputs.

# %%
named = dict(zip(here.index, table, strict=True))
best = [(f"{steps[name]} (here)", named[place]) for place, name in ours.idxmax(axis=1).items()]
behind = tables.behind_the_best(frame, sources, steps, "normalised_accuracy")
caption = (
    f"Ablation of the two steps of TSV-M on {settings.title}, first seed, and in the paper: mean normalised accuracy "
    f"in percent ± its standard error. No, no is task arithmetic; yes, yes is TSV-M. {tables.sampling(sources)} † "
    f"marks the best of a column here. {tables.unsure(behind, settings)}{results.stated('ablation', profile)}"
    f"{profiles.left_out(settings)}"
)
results.save_table("ablation", table, profile, caption, best=best)
table.T

# %% [markdown]
# Together they should be worth more than each alone. By the rule of the ledger (notebook 41), which compares both with
# each step on the same inputs:

# %%
print(claims.told("complementary", {"merge": merged, "ablation": alone, "sources": sources}))

# %% [markdown]
# Nothing of ours is missing.

# %%
assert ours.notna().all(axis=None)
assert len(ours) == len(tables.columns(settings))
print(provenance.versions_line())
