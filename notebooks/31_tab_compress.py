# %% [markdown]
# # Table 3: compression
#
# What compressed experts keep of the experts' accuracy when all of them share the room of about one or two models.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/compress.csv` |
# | Writes | `figures/<profile>/compress.{csv,md,tex}` |
# | Paper item | Table 3 |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # smoke or mini: whose results are printed

# %%
from tsvlib import plotting, profiles, provenance, results, tables

# %% [markdown]
# Each task vector keeps one over the number of tasks of its singular components; alpha is 1 and nothing is tuned.

# %%
settings = profiles.load(profile)
frame = results.load("compress", profile)
methods = {name: plotting.METHOD_STYLE[name].title for name in ("individual", "tsv_c")}
table = tables.accuracy_table(frame, settings, methods)
table.T

# %% [markdown]
# A last row tells the room that the compressed task vectors take, relative to the whole ones.

# %%
size = tables.means(frame, "bytes")
share = 100 * size.tsv_c / size.individual
settings_run = [(backbone.name, n_tasks) for backbone in settings.backbones for n_tasks in settings.suites]
table.loc["Size of TSV-C (%)"] = [f"{share[setting]:.1f}" for setting in settings_run]
caption = (
    f"Compression on {settings.title}: mean test accuracy in percent, in parentheses the mean normalised accuracy; "
    "± is the sample standard deviation over seeds where there are several."
)
results.save_table("compress", table, profile, caption)

# %% [markdown]
# Nothing may be missing, and the experts are their own norm.

# %%
assert not table.isin(["not run"]).any(axis=None)
assert table.loc[methods["individual"]].str.endswith("(100.0)").all()
print(provenance.versions_line())
