# %% [markdown]
# # Figure 16: accuracy against storage
#
# How much room do all experts of a suite take, and what is left of their accuracy? The rank of TSV-C decides.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/{spectra,compress,sources}.csv` |
# | Writes | `figures/<profile>/storage.{pdf,svg,png}` |
# | Paper item | Figure 16 |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: whose results are drawn
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import errors, plotting, results, tables

plotting.use_style()

# %% [markdown]
# As in the paper: the largest backbone, the middle suite; its first seed. Bytes are those of all task vectors
# together, accuracy is relative to the experts' own, averaged over tasks, with its standard error.

# %%
settings = profiles.load(profile, backbones, suites)
backbone, n_tasks = settings.backbones[-1], settings.suites[len(settings.suites) // 2]
where = f"backbone == '{backbone.name}' and seed == {backbone.seeds[0]}"
compressed = results.load("compress", profile).query(f"{where} and n_tasks == {n_tasks}")
tasks = compressed.query("method == 'individual' and metric == 'accuracy'").task
spectra = results.load("spectra", profile).query(where)
spectra = spectra[spectra.task.isin(tasks)]
sources = results.load("sources", profile)
accuracy = errors.accuracies(spectra, sources, ["percent"])
normalised = 100 * errors.normalised(accuracy, accuracy.loc[100])
curve = pd.DataFrame(
    {
        "megabytes": spectra.groupby("percent").bytes.sum() / 1e6,
        "normalised": normalised[0],
        "error": errors.standard_error(normalised),
    }
)
curve.round(2)

# %% [markdown]
# Single points: TSV-C with one over the number of tasks, and TALL masks, whose size is fixed.

# %%
rows = tables.summary(compressed, sources).droplevel(["backbone", "n_tasks"])
points = 100 * rows.xs("normalised_accuracy", level="metric")[["mean", "error"]].rename(columns={"mean": "normalised"})
points.insert(0, "megabytes", rows.xs("bytes", level="metric")["mean"] / 1e6)
points.round(2)

# %% [markdown]
# TSV-C and the masks take different room, so they are compared where the curve has the bytes of the masks: what the
# masks keep above a straight line between its two neighbouring points, in points of normalised accuracy.

# %%
masks = points.loc["tall_mask_ties"]
ahead = masks.normalised - np.interp(masks.megabytes, curve.megabytes, curve.normalised)
print(f"masks above the curve: {ahead:.2f}")

# %% [markdown]
# Shares of components stand on the side of the curve where the masks are not.

# %%
beside = {"xytext": (4, -9)} if ahead > 0 else {"xytext": (-3, 6), "ha": "right"}
fig, axis = plt.subplots(figsize=(3.25, 2.8), layout="constrained")
style, part = plotting.METHOD_STYLE["tsv_c"], curve.drop(index=100)
look = {"color": style.colour, "marker": ".", "capsize": 2, "label": f"{style.title}, varying rank"}
axis.errorbar(part.megabytes, part.normalised, part.error, **look)
for percent, point in (
    part[["megabytes", "normalised"]].loc[[p for p in part.index if p in (2, 5, 10, 20, 50)]].iterrows()
):
    axis.annotate(f"{percent} %", point, **beside, textcoords="offset points", fontsize=7)
for method, point in points.iterrows():
    style = plotting.METHOD_STYLE[method]
    label = f"{style.title}, 1/{n_tasks}" if method == "tsv_c" else style.title
    look = {"color": style.colour, "marker": style.marker, "linestyle": "none", "markersize": 8, "mfc": "white"}
    axis.errorbar(point.megabytes, point.normalised, point.error, capsize=2, **look, label=label)
axis.set(xlabel=f"{n_tasks} task vectors together (MB)", ylabel="normalised accuracy (%)")
axis.set_title(backbone.label)
axis.set_ylim(None, max(101, (points.normalised + points.error).max() + 0.5))
plotting.log_x(axis)
axis.legend(loc="best", fontsize=7, labelspacing=0.8)
at = {name: f"{p.normalised:.1f} % at {p.megabytes:.0f} MB" for name, p in points.iterrows()}
first, last = (f"{p.normalised:.1f} % at {p.megabytes:.0f} MB" for _, p in part.iloc[[0, -1]].iterrows())
alt = (
    f"Normalised accuracy of {n_tasks} compressed experts of {backbone.label} against their size. The curve of TSV-C "
    f"goes from {first} to {last}; with 1/{n_tasks} of the components it is {at['tsv_c']}. Whole experts: "
    f"{at['individual']}; the masks: {at['tall_mask_ties']}. {tables.sampling(sources)}"
)
plotting.save_figure(fig, "storage", profile, alt=f"{alt}{profiles.left_out(settings)}", source="28_fig_storage")

# %% [markdown]
# The published picture gives no numbers; its axis runs from 2 to 4.5 GB for 14 experts of ViT-L-14. Here sizes must
# rise with the components, and compressed experts be smaller than whole ones.

# %%
assert curve.megabytes.is_monotonic_increasing
assert points.loc["tsv_c", "megabytes"] < points.loc["individual", "megabytes"] or not settings.assert_claims
print(provenance.versions_line())
