# %% [markdown]
# # Figure 7: accuracy by alpha
#
# How much TSV-M depends on alpha, for subsets of the tasks: below ours, in grey, what the paper shows for the same
# subsets of its own tasks.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/alpha.csv`, `data/published/alpha.csv` |
# | Writes | `figures/<profile>/alpha.{pdf,svg,png}` |
# | Paper item | Figure 7 |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # smoke or mini: whose results are drawn

# %%
import matplotlib.pyplot as plt
import seaborn as sns

from compendium import profiles, provenance, published
from compendium.paper import plotting, results

plotting.use_style()

# %% [markdown]
# Mean normalised accuracy on validation images in percent. The published rows are those of the backbones and subsets
# that were run here.

# %%
settings = profiles.load(profile)
key = ["backbone", "subset"]
ours = 100 * results.load("alpha", profile).pivot_table(index=key, columns="alpha", values="score")
ours = ours.loc[[backbone.name for backbone in settings.backbones]]
paper = published.load("alpha").pivot_table(index=key, columns="alpha", values="percent")
paper = paper.loc[[(settings.backbone(backbone).counterpart, subset) for backbone, subset in ours.index]]
(ours.mean() - paper.mean().rename("paper")).round(1).to_frame("ours - paper, mean of the rows")

# %% [markdown]
# Numbers are accuracies; colour tells how far a cell lies below the best of its row, on one scale for both panels. Bold
# in a frame is the best of a row.

# %%
named = {b.name: b.label for b in settings.backbones} | {b.counterpart: b.counterpart for b in settings.backbones}
panels = {f"here: {settings.title}": (ours, "cividis"), "the paper": (paper, "gray")}
height = max(0.15 * len(ours), 1.1) + 0.55
fig, axes = plt.subplots(2, 1, figsize=(3.25, 2 * height))
for axis, (title, (table, colours)) in zip(axes, panels.items(), strict=True):
    labels = [f"{named[backbone]}, {subset}" for backbone, subset in table.index]
    below = table.sub(table.max(axis=1), axis=0)
    bar = {"label": "points below the best", "ticks": [0, -2, -4, -6, -8], "pad": 0.02, "extend": "min"}
    look = {"annot": table.to_numpy(), "fmt": ".1f", "annot_kws": {"fontsize": 5.5}, "cbar_kws": bar}
    sns.heatmap(below, ax=axis, cmap=colours, vmin=-8, vmax=0, yticklabels=labels, **look)
    for text, points in zip(axis.texts, below.to_numpy().ravel(), strict=True):
        text.set(color="black" if points > -4.5 else "white", fontweight="bold" if points == 0 else "normal")
        if points == 0:
            x, y = text.get_position()
            axis.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, linewidth=0.9, clip_on=False))
    axis.set(title=title, xlabel="alpha", ylabel="backbone, subset")
lost = ours.max(axis=1) - ours[1.0]
alt = (
    f"Two heat maps of accuracy by alpha from {ours.columns.min()} to {ours.columns.max()}. Here alpha = 1 loses "
    f"{lost.min():.1f} to {lost.max():.1f} points against the best alpha of a row, which is "
    f"{ours.idxmax(axis=1).min()} to {ours.idxmax(axis=1).max()}; in the paper at most "
    f"{(paper.max(axis=1) - paper[1.0]).max():.2f} points."
)
plotting.save_figure(fig, "alpha", profile, alt=alt, source="25_fig_alpha")

# %% [markdown]
# The best alpha of each row, and what alpha = 1 loses against it, in points.

# %%
ours.agg(["idxmax", "max"], axis=1).assign(lost=lost.round(2)).rename(columns={"idxmax": "alpha"})

# %% [markdown]
# Both panels have the same rows and alphas.

# %%
assert list(ours.columns) == list(paper.columns)
assert len(ours) == len(paper)
assert ours.notna().all(axis=None)
print(provenance.versions_line())
