# %% [markdown]
# # Table 2: merging
#
# Every method, backbone and suite in one table: mean accuracy in percent, in parentheses the mean normalised
# accuracy.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/merge.csv` |
# | Writes | `figures/<profile>/merge.{csv,md,tex}` |
# | Paper item | Table 2 |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # smoke or mini: whose results are printed

# %%
from tsvlib import plotting, profiles, provenance, results, tables

# %% [markdown]
# Where a backbone was fine-tuned with several seeds, accuracies carry their standard deviation over whole runs.

# %%
settings = profiles.load(profile)
frame = results.load("merge", profile)
merging = {name: plotting.METHOD_STYLE[name].title for name in ("weight_averaging", "task_arithmetic", "tsv_m")}
references = {name: plotting.METHOD_STYLE[name].title for name in ("zero_shot", "individual")}
table = tables.accuracy_table(frame, settings, references | merging)
table.T

# %% [markdown]
# The best merged model of each column is marked; the two references take no part.

# %%
seeds = ", ".join(f"{backbone.label} {len(backbone.seeds)}" for backbone in settings.backbones)
caption = (
    f"Merging on {settings.title}: mean test accuracy in percent, in parentheses the mean normalised accuracy. "
    f"Seeds: {seeds}; ± is the sample standard deviation over them. † marks the best merged model of a column."
)
best = tables.best(frame, settings, merging)
results.save_table("merge", table, profile, caption, best=best)

# %% [markdown]
# Whether TSV-M leads is told per setting by the rule of notebook 13: more than one point of normalised accuracy.

# %%
verdicts = tables.verdicts(frame, "tsv_m", "task_arithmetic", margin=0.01)
print("TSV-M above task arithmetic:", verdicts.verdict.value_counts().to_dict())
assert not table.isin(["not run"]).any(axis=None)
print(provenance.versions_line())
