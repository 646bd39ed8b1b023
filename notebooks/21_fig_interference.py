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
profile = "mini"  # mini, minilm or smoke: whose results are drawn
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
import matplotlib.pyplot as plt

from compendium import profiles, provenance
from compendium.paper import plotting, results

plotting.use_style()

# %% [markdown]
# The largest suite, all components of every task, which is what task arithmetic adds up, and the sum of absolute
# entries in thousands. The line is the mean of a layer and the one before it. Where there are several seeds, bars are
# their mean and whiskers span the lowest and the highest: no input is involved, so there is no sampling error.

# %%
settings = profiles.load(profile, backbones, suites)
scores = results.load("interference", profile)
whole = scores[(scores.metric == "entrywise") & (scores.form == "none")]
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
plotting.save_figure(
    fig, "interference_blocks", profile, alt=f"{alt}{profiles.left_out(settings)}", source="21_fig_interference"
)

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
plotting.save_figure(
    fig, "interference_matrices", profile, alt=f"{alt}.{profiles.left_out(settings)}", source="21_fig_interference"
)

# %% [markdown]
# ## Figure 5: distance from orthogonality
#
# One point per task matrix: factors truncated to the share that TSV-M keeps (violins), beside random orthonormal blocks
# of the same shapes (rings). Whole factors are far from orthogonal whatever they are (dashes): on the short side of a
# matrix they are T square blocks of n vectors in n dimensions, and their error is sqrt(n) (sqrt(T) - 1). The line is at
# this value for the short side that most matrices have.

# %%
errors = results.load("procrustes", profile)
whole, low = errors[errors["rank"] == "full"], errors[errors["rank"] == "low"]
n_tasks = settings.suites[0]
square = {b.name: whole[whole.backbone == b.name].error.round(2).mode()[0] for b in settings.backbones}
sides = {name: round((error / (n_tasks**0.5 - 1)) ** 2) for name, error in square.items()}
shown = errors.groupby(["backbone", "vectors", "rank"])[["error", "chance"]].mean().unstack("rank")
shown.round(1)

# %% [markdown]
# Left and right singular vectors have a panel each.

# %%
fig, axes = plt.subplots(1, 2, figsize=(6.75, 3.0), sharey=True)
for axis, vectors in zip(axes, ("u", "v"), strict=True):
    for i, backbone in enumerate(settings.backbones):
        style = plotting.backbone_style(settings, backbone.name)
        kept, all_of_it = (f[(f.backbone == backbone.name) & (f.vectors == vectors)] for f in (low, whole))
        body = axis.violinplot(kept.error, [i - 0.15], widths=0.3, showextrema=False)["bodies"][0]
        body.set(facecolor=style.colour, alpha=0.4, edgecolor="black")
        axis.plot([i - 0.15] * len(kept), kept.error, "k.", label="kept by TSV-M")
        axis.plot(
            [i + 0.15] * len(kept), kept.chance, "o", color="black", fillstyle="none", label="random, same shapes"
        )
        axis.plot([i] * len(all_of_it), all_of_it.error, "k_", label="all components")
        axis.hlines(square[backbone.name], i - 0.4, i + 0.4, color="black", linewidth=0.8)
        axis.text(i, square[backbone.name], f"n = {sides[backbone.name]}", ha="center", va="bottom", fontsize=7)
    axis.set_xticks(range(len(settings.backbones)), [backbone.label for backbone in settings.backbones])
    axis.set(title=f"{'left' if vectors == 'u' else 'right'} singular vectors", ylim=(0, 1.08 * errors.error.max()))
axes[0].set_ylabel("Procrustes error")
handles, labels = axes[0].get_legend_handles_labels()
fig.legend(handles[:3], labels[:3], ncols=3, loc="outside lower center")
closer = (low.error <= low.chance).sum()
alt = (
    f"Procrustes errors of {n_tasks} tasks, a point for each task matrix, left and right vectors. Mean with the share "
    f"that TSV-M keeps {low.error.mean():.1f}, of random orthonormal blocks of the same shapes "
    f"{low.chance.mean():.1f}; closer than these in {closer} of {len(low)} cases. All components: "
    f"{whole.error.mean():.1f}, on square blocks the constant sqrt(n) (sqrt(T) - 1)."
)
plotting.save_figure(
    fig, "procrustes", profile, alt=f"{alt}{profiles.left_out(settings)}", source="21_fig_interference"
)

# %% [markdown]
# Each figure shows every backbone.

# %%
assert set(by_block.index.get_level_values("backbone")) == {backbone.name for backbone in settings.backbones}
assert errors[["error", "chance"]].notna().all(axis=None)
assert scores.value.notna().all()
print(provenance.versions_line())
