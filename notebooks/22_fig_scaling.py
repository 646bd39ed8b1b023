# %% [markdown]
# # Figure 1: merging more and more tasks
#
# Mean accuracy of one merged model as the number of tasks grows, for the largest backbone, and what the paper has for
# its own.
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/{merge,sources}.csv`, `data/published/merging.csv` |
# | Writes | `figures/<profile>/scaling.{pdf,svg,png}` |
# | Paper item | Figure 1 |
# | Run time | seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: whose results are drawn
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
import matplotlib.pyplot as plt

from compendium import profiles, provenance, published
from compendium.paper import plotting, results, tables

plotting.use_style()

# %% [markdown]
# Accuracies are means over tasks (and seeds, where there are several), with their standard errors. The experts
# themselves are the bars' ceiling.

# %%
settings = profiles.load(profile, backbones, suites)
largest = settings.backbones[-1]
frame = results.load("merge", profile)
sources = results.load("sources", profile)
rows = 100 * tables.summary(frame[frame.backbone == largest.name], sources)[["mean", "error"]]
rows = rows.droplevel("backbone").xs("accuracy", level="metric").unstack("method")
accuracy, error = rows["mean"], rows["error"]
accuracy.round(1)

# %% [markdown]
# The published values belong to the backbone for which ours stands, a CLIP of full size on other tasks.

# %%
methods = ["zero_shot", "weight_averaging", "task_arithmetic", "consensus_ta", "tsv_m"]
theirs = largest.counterpart
cells = published.load("merging").query("backbone == @theirs and metric == 'accuracy'")
paper = cells.pivot_table(index="n_tasks", columns="method", values="percent").reindex(accuracy.index)
paper.round(1)

# %% [markdown]
# A suite contains the smaller ones, and later tasks may be easier, so bars may rise from group to group although
# merging gets harder. What does not depend on that is the share of the gap between the zero-shot model and the experts
# that a merged model closes, in percent:

# %%
gap = accuracy.individual - accuracy.zero_shot
closed = 100 * accuracy[methods[1:]].sub(accuracy.zero_shot, axis=0).div(gap, axis=0)
closed.round(0)

# %% [markdown]
# Colours and hatches belong to the methods and are the same in all figures; open marks are the paper's. Whiskers are
# standard errors; they are those of single bars, and methods are compared on the same inputs with smaller ones
# (notebook 30). Values stand at the foot of the bars, where no open mark lies. Below a group stands the
# share of the gap that TSV-M closes.

# %%
fig, axis = plt.subplots(figsize=(6.75, 2.6))
written = {"ha": "center", "fontsize": 6, "bbox": {"boxstyle": "square,pad=0.15", "fc": "white", "ec": "none"}}
for place, name in enumerate(methods):
    style = plotting.METHOD_STYLE[name]
    left = [i + 0.17 * (place - 2) for i in range(len(accuracy))]
    look = {"color": style.colour, "hatch": style.hatch, "edgecolor": "white", "yerr": error[name], "capsize": 2}
    bars = axis.bar(left, accuracy[name], 0.15, label=style.title, **look)
    for bar, value in zip(bars, accuracy[name], strict=True):
        foot = (bar.get_x() + bar.get_width() / 2, 0)
        axis.annotate(f"{value:.1f}", foot, (0, 3), textcoords="offset points", **written)
    label = f"paper, {theirs}" if name == methods[-1] else None
    axis.plot(left, paper[name], linestyle="", marker="o", mfc="none", mec="#666666", ms=5, label=label)
for i, ceiling in enumerate(accuracy.individual):
    label = plotting.METHOD_STYLE["individual"].title if i == 0 else None
    axis.hlines(ceiling, i - 0.42, i + 0.42, color="black", linestyle="--", label=label)
ticks = [f"{n_tasks} tasks\nTSV-M closes {share:.0f} % of the gap" for n_tasks, share in closed.tsv_m.items()]
axis.set_xticks(range(len(accuracy)), ticks)
axis.set(ylabel="mean accuracy (%)", title=largest.label, ylim=(0, 105))
axis.legend(ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.18))
alt = f"Bars of mean accuracy for {largest.label}, by number of tasks. " + " ".join(
    f"{plotting.METHOD_STYLE[name].title}: {', '.join(f'{value:.1f} %' for value in accuracy[name])}."
    for name in methods
)
alt += f" Open marks show the paper's {theirs}, TSV-M: {', '.join(f'{value:.1f} %' for value in paper.tsv_m)}."
alt += " Of the gap between zero-shot and experts, TSV-M closes " + ", ".join(f"{x:.0f} %" for x in closed.tsv_m)
alt += f" and task arithmetic {', '.join(f'{x:.0f} %' for x in closed.task_arithmetic)}. {tables.sampling(sources)}"
plotting.save_figure(fig, "scaling", profile, alt=f"{alt}{profiles.left_out(settings)}", source="22_fig_scaling")

# %% [markdown]
# Read the bars from left to right within a group for the methods. From group to group the tasks change as well, so the
# price of more tasks is read from the shares of the gap.

# %%
assert list(accuracy.index) == list(settings.suites)
assert accuracy[methods].notna().all(axis=None)
print(provenance.versions_line())
