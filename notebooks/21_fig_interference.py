# %% [markdown]
# # Figures 5, 6 and 14: interference by layer and by matrix, and Procrustes errors
#
# Where in the network tasks disturb each other, and how far their singular vectors are from orthogonal.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/{interference,procrustes}.csv` |
# | Writes | `figures/<profile>/{interference_blocks,interference_matrices,procrustes}.{pdf,svg,png}` |
# | Paper item | Figures 5, 6 and 14 |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # smoke or mini: whose results are drawn

# %%
import matplotlib.pyplot as plt

from compendium import profiles, provenance
from compendium.paper import plotting, results

plotting.use_style()

# %% [markdown]
# The largest suite and the sum of absolute entries, in thousands; the line is the mean of a layer and the one before
# it. Where there are several seeds, bars are their mean and whiskers span the lowest and the highest.

# %%
settings = profiles.load(profile)
scores = results.load("interference", profile)
whole = scores[(scores.metric == "entrywise") & (scores["rank"] == "full")]
largest = whole[whole.n_tasks == settings.suites[-1]].replace({"matrix": {"positional_embedding": "positions"}})
names, number = largest.matrix.str.replace("[._]weight$", "", regex=True), largest.layer.astype(str)
by_block, by_matrix = (
    largest.assign(label=label.where(largest.layer >= 0, names))
    .pivot_table(index=["backbone", "layer", "label"], columns="seed", values="value", aggfunc="sum")
    .droplevel("layer")
    / 1000
    for label in ("layer " + number, number + " " + names)
)
by_block.mean(axis=1).round(1).rename("interference (thousands)").to_frame()

# %% [markdown]
# ## Figure 6: by layer

# %%
fig, axes = plt.subplots(1, len(settings.backbones), figsize=(6.75, 2.6), squeeze=False)
for axis, backbone in zip(axes[0], settings.backbones, strict=True):
    mean = plotting.bars(
        axis, by_block.loc[backbone.name].dropna(axis=1), plotting.backbone_style(settings, backbone.name)
    )
    inside = mean[mean.index.str.startswith("layer")]
    axis.plot(inside.index, inside.rolling(2, min_periods=1).mean(), color="black", marker=".")
    axis.set_title(backbone.label)
axes[0, 0].set_ylabel("interference (thousands)")
means = {b.label: by_block.loc[b.name].mean(axis=1).round().astype(int).to_dict() for b in settings.backbones}
alt = f"Bars of singular task interference of {settings.suites[-1]} tasks by layer, in thousands. " + " ".join(
    f"{label}: {', '.join(f'{block} {value}' for block, value in found.items())}." for label, found in means.items()
)
plotting.save_figure(fig, "interference_blocks", profile, alt=alt, source="21_fig_interference")

# %% [markdown]
# ## Figure 14: by matrix

# %%
fig, axes = plt.subplots(len(settings.backbones), 1, figsize=(6.75, 2.2 * len(settings.backbones)), squeeze=False)
for axis, backbone in zip(axes[:, 0], settings.backbones, strict=True):
    mean = plotting.bars(
        axis, by_matrix.loc[backbone.name].dropna(axis=1), plotting.backbone_style(settings, backbone.name)
    )
    axis.plot(mean.index, mean.rolling(2, min_periods=1).mean(), color="black", marker=".", linewidth=0.8)
    axis.set(title=backbone.label, ylabel="thousands")
top = by_matrix.mean(axis=1).groupby(level="backbone").idxmax()
alt = "Bars of interference of every task matrix by layer and name, with a moving average. Highest: " + ", ".join(
    f"{backbone.label} {top[backbone.name][1]}" for backbone in settings.backbones
)
plotting.save_figure(fig, "interference_matrices", profile, alt=alt + ".", source="21_fig_interference")

# %% [markdown]
# ## Figure 5: distance from orthogonality
#
# One point per task matrix, whole factors beside those truncated to the share that TSV-M keeps.

# %%
errors = results.load("procrustes", profile)
fig, axes = plt.subplots(1, 2, figsize=(6.75, 2.6))
for axis, vectors in zip(axes, ("u", "v"), strict=True):
    for i, backbone in enumerate(settings.backbones):
        style = plotting.backbone_style(settings, backbone.name)
        rows = errors[(errors.backbone == backbone.name) & (errors.vectors == vectors)]
        for shift, rank in ((-0.2, "full"), (0.2, "low")):
            values = rows[rows["rank"] == rank].error
            body = axis.violinplot(values, [i + shift], widths=0.36, showextrema=False)["bodies"][0]
            body.set(facecolor=style.colour, alpha=0.6 if rank == "full" else 0.25, edgecolor="black")
            axis.plot([i + shift] * len(values), values, "k_" if rank == "full" else "k.")
    places = [i + shift for i in range(len(settings.backbones)) for shift in (-0.2, 0.2)]
    axis.set_xticks(places, [f"{b.label}, {rank}" for b in settings.backbones for rank in ("full", "low")], rotation=90)
    axis.set(title=f"{'left' if vectors == 'u' else 'right'} singular vectors", ylim=(0, None))
axes[0].set_ylabel("Procrustes error")
means = errors.groupby("rank").error.mean()
alt = (
    f"Violins of the Procrustes error of {settings.suites[0]} tasks over task matrices. Mean with all components "
    f"{means['full']:.1f}, with the share that TSV-M keeps {means['low']:.1f}."
)
plotting.save_figure(fig, "procrustes", profile, alt=alt, source="21_fig_interference")

# %% [markdown]
# Each figure shows every backbone.

# %%
assert set(by_block.index.get_level_values("backbone")) == {backbone.name for backbone in settings.backbones}
assert errors.error.notna().all()
assert scores.value.notna().all()
print(provenance.versions_line())
