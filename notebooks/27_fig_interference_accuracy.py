# %% [markdown]
# # Figures 8, 13 and 15: interference against accuracy
#
# Does less interference go with a better merged model? One point for each method and suite.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/{interference,merge}.csv` |
# | Writes | `figures/<profile>/interference_accuracy.{pdf,svg,png}` |
# | Paper item | Figures 8, 13 and 15 |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # smoke or mini: whose results are drawn

# %%
import matplotlib.pyplot as plt
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import claims, plotting, results

plotting.use_style()

# %% [markdown]
# Task arithmetic adds up whole task matrices, so its interference is that of all components. TSV-M keeps one over the
# number of tasks; what is shown is their interference before orthogonalisation, which leaves none. Sums over all
# matrices, in thousands.

# %%
settings = profiles.load(profile)
scores, merged = results.load("interference", profile), results.load("merge", profile)
entrywise = scores[scores.metric == "entrywise"]
key = ["backbone", "n_tasks", "seed"]
sums = entrywise.pivot_table(index=key, columns="rank", values="value", aggfunc="sum") / 1000
accuracy = merged[merged.metric == "normalised_accuracy"].pivot_table(index=key, columns="method", values="value")
points = {
    method: pd.DataFrame({"interference": sums[rank], "accuracy": 100 * accuracy[method]}).dropna()
    for method, rank in (("task_arithmetic", "full"), ("tsv_m", "low"))
}
pd.concat(points, axis=1).groupby(level=["backbone", "n_tasks"]).mean().round(1)

# %% [markdown]
# Numbers at the points are numbers of tasks. Where there are several seeds, a point is their mean and bars span the
# lowest and the highest.

# %%
fig, axes = plt.subplots(1, len(settings.backbones), figsize=(6.75, 2.6), squeeze=False, layout="constrained")
for axis, backbone in zip(axes[0], settings.backbones, strict=True):
    for method, frame in points.items():
        suites = frame.loc[backbone.name].groupby(level="n_tasks")
        mean, low, high = suites.mean(), suites.min(), suites.max()
        style = plotting.METHOD_STYLE[method]
        bars = {"yerr": [mean.accuracy - low.accuracy, high.accuracy - mean.accuracy]}
        bars |= {"xerr": [mean.interference - low.interference, high.interference - mean.interference]}
        look = {"color": style.colour, "marker": style.marker, "linestyle": ":", "elinewidth": 0.8}
        axis.errorbar(mean.interference, mean.accuracy, **bars, **look, label=style.title)
        for n_tasks, point in mean.iterrows():
            axis.annotate(str(n_tasks), point, (4, 4), textcoords="offset points", fontsize=7)
    axis.set(title=backbone.label, xlabel="interference (thousands)")
    axis.margins(0.15)
    plotting.log_x(axis)
axes[0, 0].set_ylabel("normalised accuracy (%)")
fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=2, loc="outside lower center")
correlation = claims.against_accuracy({"interference": scores, "merge": merged}).values
found = ", ".join(f"{b.label} {correlation[b.name].mean():.2f}" for b in settings.backbones)
gap = points["tsv_m"] - points["task_arithmetic"]
alt = (
    f"Of {len(gap)} merges of TSV-M, {(gap.interference < 0).sum()} have less interference than task arithmetic and "
    f"{(gap.accuracy > 0).sum()} a higher accuracy. Rank correlation over methods and suites: {found}"
)
plotting.save_figure(fig, "interference_accuracy", profile, alt=alt + ".", source="27_fig_interference_accuracy")

# %% [markdown]
# Within a method both change with the number of tasks; between methods the gap is what orthogonalisation is built on.
# A correlation over six points is no proof of a cause.

# %%
assert all(frame.notna().all(axis=None) for frame in points.values())
assert set(points["tsv_m"].index.get_level_values("backbone")) == {backbone.name for backbone in settings.backbones}
print(provenance.versions_line())
