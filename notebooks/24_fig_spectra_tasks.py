# %% [markdown]
# # Figure 17: the low-rank curve of every task
#
# The mean of Figure 2 taken apart: how many singular components does each task need?
#
# | | |
# |---|---|
# | Reads | `data/results/<profile>/spectra.csv` |
# | Writes | `figures/<profile>/spectra_tasks.{pdf,svg,png}` |
# | Paper item | Figure 17, for all backbones |
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
# Accuracy relative to the whole expert, mean over seeds; the band spans the lowest and the highest seed. The table
# shows the task that suffers most at each share.

# %%
settings = profiles.load(profile, backbones, suites)
frame = results.load("spectra", profile)
accuracy = frame.pivot_table(index=["task", "percent"], columns=["backbone", "seed"], values="accuracy")
relative = 100 * accuracy / accuracy.groupby(level="task").transform("last")
relative.T.groupby(level="backbone").mean().T.groupby(level="percent").min().round(1)

# %% [markdown]
# One panel per task, all on the same axes. The dotted line is 99 % of the whole expert.

# %%
tasks = sorted(frame.task.unique())
n_columns = min(5, len(tasks))
n_rows = -(-len(tasks) // n_columns)
fig, axes = plt.subplots(n_rows, n_columns, figsize=(6.75, 1.4 * n_rows + 0.5), sharex=True, sharey=True, squeeze=False)
for axis, task in zip(axes.flat, tasks, strict=False):
    for backbone in settings.backbones:
        style = plotting.backbone_style(settings, backbone.name)
        curve = relative.loc[task][backbone.name].drop(index=100)
        look = {"color": style.colour, "marker": style.marker, "markersize": 2.5, "label": backbone.label}
        axis.plot(curve.index, curve.mean(axis=1), **look)
        axis.fill_between(curve.index, curve.min(axis=1), curve.max(axis=1), color=style.colour, alpha=0.2)
    axis.axhline(99, color="black", linestyle=":", linewidth=0.8)
    axis.set_title(task, fontsize=7)
for axis in axes.flat[len(tasks) :]:
    axis.set_visible(False)
fig.supxlabel("kept singular components (%)", fontsize=8)
fig.supylabel("accuracy relative to the expert (%)", fontsize=8)
fig.legend(*axes[0, 0].get_legend_handles_labels(), ncols=len(settings.backbones), loc="outside upper center")
least = relative.drop(index=100, level="percent").mean(axis=1).groupby(level="task").min()
alt = f"A panel per task: accuracy relative to the expert by share of components kept. Steepest: {least.idxmin()}."
plotting.save_figure(
    fig, "spectra_tasks", profile, alt=f"{alt}{profiles.left_out(settings)}", source="24_fig_spectra_tasks"
)

# %% [markdown]
# Tasks differ in how early their curve bends; the table above shows how far the worst of them falls. A single task has
# few inputs, so no error is drawn and no claim rests on a panel.

# %%
assert set(tasks) == set(frame.task)
assert relative.notna().all(axis=None)
print(provenance.versions_line())
