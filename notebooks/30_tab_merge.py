# %% [markdown]
# # Table 2: merging
#
# Every method, backbone and suite in one table: mean accuracy in percent, in parentheses the mean normalised
# accuracy. Below stands what was published for CLIPs of full size.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/{merge,sources}.csv`, `data/published/{merging,successors}.csv` |
# | Writes | `figures/<profile>/merge.{csv,md,tex}` |
# | Paper item | Table 2 |
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
# Every mean has its standard error; where a backbone was fine-tuned with several seeds, the standard deviation over
# whole runs follows in brackets. Methods choose alpha by accuracy on validation inputs, which takes labels; the row
# alpha = 1 does without, as the paper's Table 1 has it. TIES and Iso-C, which the paper's table does not have, were run
# with the first seed.

# %%
settings = profiles.load(profile, backbones, suites)
frame, sources = results.load("merge", profile), results.load("sources", profile)
title = tables.TITLES
published_rows = ("weight_averaging", "task_arithmetic", "consensus_ta", "tsv_m")
merging = {name: title[name] for name in (*published_rows, "tsv_m_alpha_1")}
more = {name: f"{title[name]} (not in Table 2)" for name in ("ties", "iso_c")}
references = {name: title[name] for name in ("zero_shot", "individual")}
ours = tables.accuracy_table(frame, sources, settings, references | merging | more)
ours.T

# %% [markdown]
# A column names our backbone; the published rows are those of the backbone for which it stands, with as many tasks.

# %%
rows = {name: title[name] for name in ("zero_shot", *published_rows)}
paper = tables.published_table(published.load("merging"), settings, rows, "paper, ViT")
added = {name: title[name] for name in more}
later = tables.published_table(published.load("successors"), settings, added, "arXiv 2502.04959, ViT", decimals=1)
table = pd.concat([ours, paper, later])
pd.concat([paper, later]).T

# %% [markdown]
# The best merged model of each column is marked, among the paper's methods of our own rows. TIES and Iso-C with their
# single seed take no part, so they are compared on the first seed: what is best there, and what sampling alone could
# put behind it, is told for both comparisons.

# %%
behind = tables.behind_the_best(frame, sources, merging)
first = pd.DataFrame([(b.name, b.seeds[0]) for b in settings.backbones], columns=["backbone", "seed"])
with_more = merging | {name: title[name] for name in more}
once = frame.merge(first)
on_first = tables.behind_the_best(once, sources, with_more)
led = [place for name, place in tables.best(once, settings, with_more) if name in map(title.get, more)]
averaged = tables.means(frame, "accuracy").eval("weight_averaging > task_arithmetic").sum()
behind.round(2)

# %% [markdown]
# All of that goes into the caption, since a table is read alone.

# %%
n_columns = len(tables.columns(settings))
seeds = ", ".join(f"{backbone.label} {len(backbone.seeds)}" for backbone in settings.backbones)
caption = (
    f"Merging on {settings.title}: {tables.CELLS}. {tables.sampling(sources)} Seeds: {seeds}; TIES and Iso-C have the "
    f"first only. † marks the best of our rows without these two. {tables.unsure(behind, settings)} On the "
    f"first seed TIES or Iso-C is the best in {len(led)} of {n_columns} columns ({', '.join(led) or 'none'}). "
    f"Weight averaging, which chooses nothing, lies above task arithmetic in {averaged}. Published rows are of "
    f"ViT-B/32, B/16 and L/14 with as many tasks.{results.stated('merge', profile)}{profiles.left_out(settings)}"
)
best = tables.best(frame, settings, merging)
results.save_table("merge", table, profile, caption, best=best)

# %% [markdown]
# Whether TSV-M leads is told by the rules of the ledger (notebook 41).

# %%
for name in ("task_arithmetic", "consensus_ta"):
    print(f"TSV-M above {title[name]}: {claims.told(name, {'merge': frame, 'sources': sources})}")
print("With TIES and Iso-C, on the first seed:", tables.unsure(on_first, settings))
assert not table[tables.columns(settings)].isin([tables.NOT_RUN]).any(axis=None)
print(provenance.versions_line())
