# %% [markdown]
# # Table 3: compression
#
# What compressed experts keep of the experts' accuracy when all of them share the room of a few models or less. Below
# stands what the paper has for CLIPs of full size.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/{compress,sources}.csv`, `data/published/compression.csv` |
# | Writes | `figures/<profile>/compress.{csv,md,tex}` |
# | Paper item | Table 3 |
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
# TSV-C keeps one over the number of tasks of each task vector's singular components; alpha is 1 and nothing is tuned.
# TALL-Mask + TIES keeps one update and a mask per task, whose lambda is chosen on validation inputs.

# %%
settings = profiles.load(profile, backbones, suites)
frame, sources = results.load("compress", profile), results.load("sources", profile)
methods = {name: tables.TITLES[name] for name in ("individual", "tall_mask_ties", "tsv_c")}
table = tables.accuracy_table(frame, sources, settings, methods)
table.T

# %% [markdown]
# Rows below tell the room that all compressed task vectors take, in whole encoders, and what that buys: points of
# normalised accuracy for each megabyte. The method with the higher accuracy may be the larger one.

# %%
size, kept = tables.means(frame, "bytes"), tables.means(frame, "normalised_accuracy")
every = profiles.whole(settings)
places = pd.MultiIndex.from_product([[backbone.name for backbone in every.backbones], every.suites])
encoder = size.individual / size.index.get_level_values("n_tasks")
for name in ("tall_mask_ties", "tsv_c"):
    models, bought = size[name] / encoder, 100 * kept[name] / (size[name] / 1e6)
    for words, values, digits in (("size in whole encoders", models, 2), ("points by megabyte", bought, 1)):
        cells = values.reindex(places).map(f"{{:.{digits}f}}".format).replace("nan", tables.NOT_RUN)
        table.loc[f"{methods[name]}, {words}"] = list(cells)
larger = int((size.tsv_c > size.tall_mask_ties).sum())
table.tail(4).T

# %% [markdown]
# A column names our backbone; the published rows are those of the backbone for which it stands, with as many tasks.

# %%
paper = tables.published_table(published.load("compression"), settings, methods, "paper, ViT")
caption = (
    f"Compression on {settings.title}: {tables.CELLS}. {tables.sampling(sources)} Sizes are those of all task vectors "
    f"together, the base not counted. TSV-C is larger than TALL-Mask + TIES in {larger} of {len(size)} columns, so "
    "accuracies are not at equal size (see Figure 16). Published rows: ViT-B/32, B/16 and L/14 with as many tasks."
    f"{results.stated('compress', profile)}{profiles.left_out(settings)}"
)
results.save_table("compress", pd.concat([table, paper]), profile, caption)
paper.T

# %% [markdown]
# The ledger's verdicts (notebook 41) on accuracy and on room, where the paper speaks of about two models:

# %%
found = {"compress": frame, "sources": sources}
print(f"Accuracy: {claims.told('compression', found)}")
print(f"Room: {claims.told('storage', found)}")

# %% [markdown]
# Nothing may be missing, and the experts are their own norm.

# %%
run = table[tables.columns(settings)]
assert not run.isin([tables.NOT_RUN]).any(axis=None)
assert run.loc[methods["individual"]].str.contains("(100.0)", regex=False).all()
print(provenance.versions_line())
