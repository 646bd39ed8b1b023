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
profile = "mini"  # mini, minilm or smoke: whose results are drawn
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
import matplotlib.pyplot as plt

from compendium import profiles, provenance
from compendium.paper import plotting, results

plotting.use_style()

# %% [markdown]
# The table holds one triangle of each map; the other is its mirror image. Tasks stand in the fixed order.

# %%
settings = profiles.load(profile, backbones, suites)
frame = results.load("similarity", profile)
maps = {}
for vectors, rows in frame.groupby("vectors"):
    upper = rows.pivot_table(index="first", columns="second", values="similarity")
    maps[vectors] = upper.combine_first(upper.T).to_numpy()
names = list(frame.sort_values("first").task.unique())
n_tasks = len(names)
k = len(maps["v"]) // n_tasks
two = min(2, n_tasks - 2)  # the paper looks at its third and fourth task
closer = maps["v"][two * k : (two + 2) * k, two * k : (two + 2) * k]
{vectors: whole.shape for vectors, whole in maps.items()}

# %% [markdown]
# Colours end at one half in both directions, as in the paper; lines part the tasks.

# %%
pair = names[two : two + 2]
panels = {"left vectors": (maps["u"], names), "right vectors": (maps["v"], names), "right, closer": (closer, pair)}
fig, axes = plt.subplots(1, 3, figsize=(6.75, 2.6))
for axis, (title, (picture, tasks)) in zip(axes, panels.items(), strict=True):
    image = axis.imshow(picture, cmap="PuOr", vmin=-0.5, vmax=0.5, interpolation="nearest", rasterized=True)
    for border in range(1, len(tasks)):
        axis.axhline(border * k - 0.5, color="black", linewidth=0.4)
        axis.axvline(border * k - 0.5, color="black", linewidth=0.4)
    middles = [(i + 0.5) * k - 0.5 for i in range(len(tasks))]
    axis.set_xticks(middles, tasks, rotation=90)
    axis.set_yticks(middles, tasks if axis is not axes[1] else [])
    axis.set_title(title)
    axis.tick_params(length=0)
    axis.grid(visible=False)
fig.colorbar(image, ax=axes, label="inner product", shrink=0.8)
largest = (
    frame[frame["first"] // k != frame["second"] // k].groupby("vectors").similarity.apply(lambda x: x.abs().max())
)
alt = (
    f"Maps of inner products of the {k} leading singular vectors of each of {n_tasks} tasks in the first attention "
    f"layer of {settings.backbones[0].label}, and of {' and '.join(pair)} alone. The diagonal "
    f"is one; between tasks the largest absolute value is {largest['u']:.2f} for left and {largest['v']:.2f} for right "
    "vectors."
)
plotting.save_figure(fig, "similarity", profile, alt=f"{alt}{profiles.left_out(settings)}", source="26_fig_similarity")

# %% [markdown]
# Off the diagonal blocks, colour is interference. Each block begins, at its upper left, with the vectors of the largest
# singular values.

# %%
assert all(len(whole) == n_tasks * k for whole in maps.values())
assert frame.similarity.notna().all()
print(provenance.versions_line())
