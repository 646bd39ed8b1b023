# %% [markdown]
# # Figure 1: merging more and more tasks
#
# Mean accuracy of one merged model as the number of tasks grows, for the largest backbone.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/merge.csv` |
# | Writes | `figures/<profile>/scaling.{pdf,svg,png}` |
# | Paper item | Figure 1 |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # smoke or mini: whose results are drawn

# %%
import matplotlib.pyplot as plt

from tsvlib import plotting, profiles, provenance, results, tables

plotting.use_style()

# %% [markdown]
# Accuracies are means over tasks (and seeds, where there are several). The experts themselves are the bars' ceiling.

# %%
settings = profiles.load(profile)
largest = settings.backbones[-1]
frame = results.load("merge", profile)
accuracy = 100 * tables.means(frame, "accuracy").loc[largest.name]
accuracy.round(1)

# %% [markdown]
# Colours and hatches belong to the methods and are the same in all figures.

# %%
methods = ["zero_shot", "weight_averaging", "task_arithmetic", "tsv_m"]
fig, axis = plt.subplots(figsize=(6.75, 2.6))
for place, name in enumerate(methods):
    style = plotting.METHOD_STYLE[name]
    left = [i + 0.2 * (place - 1.5) for i in range(len(accuracy))]
    bars = axis.bar(
        left, accuracy[name], 0.18, label=style.title, color=style.colour, hatch=style.hatch, edgecolor="white"
    )
    axis.bar_label(bars, fmt="%.1f", fontsize=6)
for i, ceiling in enumerate(accuracy.individual):
    label = plotting.METHOD_STYLE["individual"].title if i == 0 else None
    axis.hlines(ceiling, i - 0.42, i + 0.42, color="black", linestyle="--", label=label)
axis.set_xticks(range(len(accuracy)), [f"{n_tasks} tasks" for n_tasks in accuracy.index])
axis.set(ylabel="mean accuracy (%)", title=largest.label, ylim=(0, 105))
axis.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.12))
alt = f"Bars of mean accuracy for {largest.label}, by number of tasks. " + " ".join(
    f"{plotting.METHOD_STYLE[name].title}: {', '.join(f'{value:.1f} %' for value in accuracy[name])}."
    for name in methods
)
plotting.save_figure(fig, "scaling", profile, alt=alt, source="22_fig_scaling")

# %% [markdown]
# Read the bars from left to right within a group for the methods, and from group to group for the price of more
# tasks.

# %%
assert list(accuracy.index) == list(settings.suites)
assert accuracy.notna().all(axis=None)
print(provenance.versions_line())
