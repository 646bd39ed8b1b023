# %% [markdown]
# # Table 3: compression
#
# What compressed experts keep of the experts' accuracy when all of them share the room of a few models or less. Below
# stands what the paper has for CLIPs of full size.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/compress.csv`, `data/published/compression.csv` |
# | Writes | `figures/<profile>/compress.{csv,md,tex}` |
# | Paper item | Table 3 |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # smoke or mini: whose results are printed

# %%
import pandas as pd

from compendium import profiles, provenance, published
from compendium.paper import results, tables

# %% [markdown]
# TSV-C keeps one over the number of tasks of each task vector's singular components; alpha is 1 and nothing is tuned.
# TALL-Mask + TIES keeps one update and a mask per task, whose lambda is chosen on validation images.

# %%
settings = profiles.load(profile)
frame = results.load("compress", profile)
methods = {name: tables.TITLES[name] for name in ("individual", "tall_mask_ties", "tsv_c")}
table = tables.accuracy_table(frame, settings, methods)
table.T

# %% [markdown]
# Two rows tell the room that the compressed task vectors take, relative to the whole ones.

# %%
size = tables.means(frame, "bytes")
settings_run = [(backbone.name, n_tasks) for backbone in settings.backbones for n_tasks in settings.suites]
for name in ("tall_mask_ties", "tsv_c"):
    share = 100 * size[name] / size.individual
    table.loc[f"Size of {methods[name]} (%)"] = [f"{share[setting]:.1f}" for setting in settings_run]
table.tail(2).T

# %% [markdown]
# A column names our backbone; the published rows are those of the backbone for which it stands, with as many tasks.

# %%
paper = tables.published_table(published.load("compression"), settings, methods, "paper, ViT")
caption = (
    f"Compression on {settings.title}: mean test accuracy in percent, in parentheses the mean normalised accuracy; "
    "± is the sample standard deviation over seeds where there are several. Sizes are those of all task vectors "
    "relative to whole ones. Published rows are of ViT-B/32, B/16 and L/14 with as many tasks."
)
results.save_table("compress", pd.concat([table, paper]), profile, caption)
paper.T

# %% [markdown]
# Nothing may be missing, and the experts are their own norm.

# %%
assert not table.isin(["not run"]).any(axis=None)
assert table.loc[methods["individual"]].str.endswith("(100.0)").all()
print(provenance.versions_line())
