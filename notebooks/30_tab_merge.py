# %% [markdown]
# # Table 2: merging
#
# Every method, backbone and suite in one table: mean accuracy in percent, in parentheses the mean normalised
# accuracy. Below stands what was published for CLIPs of full size.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/merge.csv`, `data/published/{merging,successors}.csv` |
# | Writes | `figures/<profile>/merge.{csv,md,tex}` |
# | Paper item | Table 2 |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # smoke or mini: whose results are printed

# %%
import pandas as pd

from compendium import profiles, provenance, published
from compendium.paper import claims, results, tables

# %% [markdown]
# Where a backbone was fine-tuned with several seeds, accuracies carry their standard deviation over whole runs. TIES
# and Iso-C, which the paper's table does not have, were run with the first seed.

# %%
settings = profiles.load(profile)
frame = results.load("merge", profile)
title = tables.TITLES
merging = {name: title[name] for name in ("weight_averaging", "task_arithmetic", "consensus_ta", "tsv_m")}
more = {name: f"{title[name]} (not in Table 2)" for name in ("ties", "iso_c")}
references = {name: title[name] for name in ("zero_shot", "individual")}
ours = tables.accuracy_table(frame, settings, references | merging | more)
ours.T

# %% [markdown]
# A column names our backbone; the published rows are those of the backbone for which it stands, with as many tasks.

# %%
rows = {"zero_shot": title["zero_shot"]} | merging
paper = tables.published_table(published.load("merging"), settings, rows, "paper, ViT")
added = {name: title[name] for name in more}
later = tables.published_table(published.load("successors"), settings, added, "arXiv 2502.04959, ViT")
table = pd.concat([ours, paper, later])
pd.concat([paper, later]).T

# %% [markdown]
# The best merged model of each column is marked, among the paper's methods of our own rows; the two references take no
# part, nor do TIES and Iso-C with their single seed.

# %%
seeds = ", ".join(f"{backbone.label} {len(backbone.seeds)}" for backbone in settings.backbones)
caption = (
    f"Merging on {settings.title}: mean test accuracy in percent, in parentheses the mean normalised accuracy. "
    f"Seeds: {seeds}; ± is the sample standard deviation over them; TIES and Iso-C have the first seed only. † marks "
    "the best of our rows of the paper's methods. Published rows are of ViT-B/32, B/16 and L/14 with as many tasks."
)
best = tables.best(frame, settings, merging)
results.save_table("merge", table, profile, caption, best=best)

# %% [markdown]
# Whether TSV-M leads is told by the rule of the ledger (notebook 41): more than one point of normalised accuracy in
# every cell and seed. The methods that ran with the first seed are compared on that seed.

# %%
for name in ("task_arithmetic", "consensus_ta", *more):
    found = claims.ahead(name)({"merge": frame})
    print(f"TSV-M above {title[name]}: {claims.verdict(found.true)}, in {found.true.sum()} of {len(found.true)}")
assert not table.isin(["not run"]).any(axis=None)
print(provenance.versions_line())
