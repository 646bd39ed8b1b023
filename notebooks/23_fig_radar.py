# %% [markdown]
# # Figures 4, 9 and 10: task by task
#
# The mean over tasks hides who pays. One radar per backbone and suite: every spoke is a task, farther out is better.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/{merge,compress}.csv` |
# | Writes | `figures/<profile>/radar.{pdf,svg,png}` |
# | Paper item | Figure 4 (B/32), 9 (B/16) and 10 (L/14) |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: whose results are drawn
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
import math

import matplotlib.pyplot as plt
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import plotting, results

plotting.use_style()

# %% [markdown]
# Tasks are numbered in alphabetical order, the same in all panels; accuracies are means over seeds.

# %%
settings = profiles.load(profile, backbones, suites)
methods = ["zero_shot", "task_arithmetic", "consensus_ta", "tsv_m", "tsv_c"]
frame = pd.concat([results.load("merge", profile), results.load("compress", profile)])
frame = frame[(frame.metric == "accuracy") & frame.method.isin(methods)]
accuracy = 100 * frame.pivot_table(
    index=["backbone", "n_tasks", "task"], columns="method", values="value", aggfunc="mean"
)
number = {task: i for i, task in enumerate(sorted(frame.task.unique()), 1)}
accuracy.groupby(level=["backbone", "n_tasks"]).min().round(1)

# %% [markdown]
# The table above is the worst task of each model. Below, rings are 25, 50, 75 and 100 %.

# %%
shape = (len(settings.backbones), len(settings.suites))
look = {"squeeze": False, "subplot_kw": {"polar": True}, "dpi": 70}
fig, axes = plt.subplots(*shape, figsize=(6.75, 1.9 * shape[0] + 0.7), **look)
for row, backbone in zip(axes, settings.backbones, strict=True):
    for axis, n_tasks in zip(row, settings.suites, strict=True):
        spokes = accuracy.loc[backbone.name, n_tasks]
        angles = [2 * math.pi * i / len(spokes) for i in range(len(spokes) + 1)]
        for name in methods:
            style = plotting.METHOD_STYLE[name]
            closed = [*spokes[name], spokes[name].iloc[0]]
            axis.plot(angles, closed, color=style.colour, marker=style.marker, markersize=2, label=style.title)
        axis.set_xticks(angles[:-1], [str(number[task]) for task in spokes.index])
        axis.tick_params(axis="x", pad=-3, labelsize=6)
        axis.set_yticks([25, 50, 75, 100], [])
        axis.set(ylim=(0, 100), title=f"{backbone.label}, {n_tasks} tasks")
fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=len(methods), loc="outside upper center")
key = [f"{i} {task}" for task, i in number.items()]
rows = [" · ".join(key[i : i + 7]) for i in range(0, len(key), 7)]
fig.supxlabel("\n".join(rows), fontsize=6)

# %% [markdown]
# The worst task of TSV-M in words, for readers who cannot see the charts.

# %%
worst = accuracy.groupby(level=["backbone", "n_tasks"]).tsv_m.min().round().astype(int)
lowest = {b.label: ", ".join(f"{value} % of {n}" for n, value in worst[b.name].items()) for b in settings.backbones}
alt = "Radar charts of accuracy by task for zero-shot, task arithmetic, Consensus TA, TSV-M and TSV-C. "
alt += "Lowest task of TSV-M: "
alt += "; ".join(f"{label} {found} tasks" for label, found in lowest.items()) + "."
plotting.save_figure(fig, "radar", profile, alt=f"{alt}{profiles.left_out(settings)}", source="23_fig_radar")

# %% [markdown]
# How often TSV-M is better than task arithmetic on a single task, over all backbones and suites:

# %%
wins = int((accuracy.tsv_m > accuracy.task_arithmetic).sum())
print(f"TSV-M is above task arithmetic on {wins} of {len(accuracy)} tasks")
assert accuracy.notna().all(axis=None)
print(provenance.versions_line())
