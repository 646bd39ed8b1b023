# %% [markdown]
# # Figure 3: similarity of the tasks' singular vectors
#
# Inner products of all pairs of singular vectors of several tasks in one task matrix, and a closer look at two tasks.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/similarity.csv` |
# | Writes | `figures/<profile>/similarity.{pdf,svg,png}` |
# | Paper item | Figure 3 |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # smoke or mini: whose results are drawn

# %%
import matplotlib.pyplot as plt

from tsvlib import plotting, profiles, provenance, results

plotting.use_style()

# %% [markdown]
# The table holds one triangle of each map; the other is its mirror image. Tasks stand in the fixed order.

# %%
settings = profiles.load(profile)
frame = results.load("similarity", profile)
maps = {}
for vectors, rows in frame.groupby("vectors"):
    upper = rows.pivot_table(index="first", columns="second", values="similarity")
    maps[vectors] = upper.combine_first(upper.T).to_numpy()
n_tasks = settings.suites[0]
k = len(maps["v"]) // n_tasks
two = min(2, n_tasks - 2)  # the paper looks at its third and fourth task
closer = maps["v"][two * k : (two + 2) * k, two * k : (two + 2) * k]
{vectors: whole.shape for vectors, whole in maps.items()}

# %% [markdown]
# Colours end at one half in both directions, as in the paper; lines part the tasks.

# %%
titles = ["left vectors", "right vectors", f"right vectors, tasks {two + 1} and {two + 2}"]
fig, axes = plt.subplots(1, 3, figsize=(6.75, 2.7), layout="constrained")
for axis, title, picture in zip(axes, titles, [maps["u"], maps["v"], closer], strict=True):
    image = axis.imshow(picture, cmap="PuOr", vmin=-0.5, vmax=0.5, interpolation="nearest", rasterized=True)
    parts = len(picture) // k
    for border in range(1, parts):
        axis.axhline(border * k - 0.5, color="black", linewidth=0.4)
        axis.axvline(border * k - 0.5, color="black", linewidth=0.4)
    names = [str(i + 1) for i in range(parts)] if parts > 2 else [str(two + 1), str(two + 2)]
    middles = [(i + 0.5) * k for i in range(parts)]
    axis.set_xticks(middles, names)
    axis.set_yticks(middles, names)
    axis.set(title=title, xlabel="task")
    axis.tick_params(length=0)
    axis.grid(visible=False)
axes[0].set_ylabel("task")
fig.colorbar(image, ax=axes, label="inner product", shrink=0.8)
largest = (
    frame[frame["first"] // k != frame["second"] // k].groupby("vectors").similarity.apply(lambda x: x.abs().max())
)
alt = (
    f"Maps of inner products of the {k} leading singular vectors of each of {n_tasks} tasks in the first attention "
    f"layer of {settings.backbones[0].label}. The diagonal is one; between tasks the largest absolute value is "
    f"{largest['u']:.2f} for left and {largest['v']:.2f} for right vectors."
)
plotting.save_figure(fig, "similarity", profile, alt=alt, source="26_fig_similarity")

# %% [markdown]
# Off the diagonal blocks, colour is interference: the first vectors of each task, at the upper left of its block, are
# the strongest.

# %%
assert all(len(whole) == n_tasks * k for whole in maps.values())
assert frame.similarity.notna().all()
print(provenance.versions_line())
