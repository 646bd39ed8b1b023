# %% [markdown]
# # Figure 18: confusion matrices of one merged model
#
# What a single model merged by TSV-M takes the test inputs of every task for.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/confusion.csv` |
# | Writes | `figures/<profile>/confusion.{pdf,svg,png}` |
# | Paper item | Figure 18 |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: whose results are drawn
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
import math

import matplotlib.pyplot as plt

from compendium import profiles, provenance
from compendium.paper import plotting, results

plotting.use_style()

# %% [markdown]
# Rows are true classes and sum to one, columns are what the model saw. Tasks are sorted by accuracy.

# %%
settings = profiles.load(profile, backbones, suites)
frame = results.load("confusion", profile)
totals = frame.groupby("task").inputs.sum()
accuracy = (frame[frame.true == frame.predicted].groupby("task").inputs.sum() / totals).fillna(0)
order = list(accuracy.sort_values(ascending=False).index)
(100 * accuracy[order]).round(1).rename("accuracy (%)").to_frame().T

# %% [markdown]
# All panels share one scale.

# %%
columns = min(5, len(order))
lines = math.ceil(len(order) / columns)
fig, axes = plt.subplots(lines, columns, figsize=(6.75, 1.55 * lines), squeeze=False, layout="constrained")
for axis in axes.flat[len(order) :]:
    axis.set_axis_off()
for axis, task in zip(axes.flat, order, strict=False):
    rows = frame[frame.task == task]
    table = rows.pivot_table(index="true", columns="predicted", values="inputs")
    shares = table.div(table.sum(axis=1).clip(lower=1), axis=0)
    image = axis.imshow(shares, cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(f"{task} {100 * accuracy[task]:.0f} %", fontsize=8)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
fig.supxlabel("predicted class", fontsize=8)
fig.supylabel("true class", fontsize=8)
fig.colorbar(image, ax=axes, label="share of a class", shrink=0.5)
alt = (
    f"Confusion matrices of one model merged from {len(order)} tasks ({settings.backbones[-1].label}). Accuracies: "
    + (", ".join(f"{task} {100 * accuracy[task]:.0f} %" for task in order))
)
plotting.save_figure(fig, "confusion", profile, alt=f"{alt}.{profiles.left_out(settings)}", source="29_fig_confusion")

# %% [markdown]
# Bright columns are classes that the model prefers to others.

# %%
assert len(order) == settings.suites[-1]
assert (totals > 0).all()
print(provenance.versions_line())
