# %% [markdown]
# # The tasks
#
# The paper fine-tunes CLIP on twenty public data sets. This page shows the tasks that stand in for them here: where
# their inputs come from, and what they look like.
#
# | | |
# |---|---|
# | Reads | the inputs of the profile's world |
# | Writes | `figures/<profile>/tasks.{pdf,svg,png}` |
# | Paper item | none (Section 4 lists the paper's data sets) |
# | Run time | under a minute |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: whose tasks are shown
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all

# %%
from itertools import combinations

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Markdown

from compendium import profiles, provenance
from compendium.paper import plotting
from compendium.worlds.protocol import SPLITS, world_of

plotting.use_style()

# %% [markdown]
# Suites are the first rows of one fixed order, as in the paper. *Real* tasks show what others made, a photograph, a
# scan or a text; the others are rendered. All was fixed before any model was merged.

# %%
settings = profiles.load(profile, backbones, suites)
world = world_of(settings)
tasks = world.tasks
rows = [(t.title, len(t.classes), "yes" if t.real else "no", t.source, t.licence) for t in tasks]
pd.DataFrame(rows, columns=["task", "classes", "real", "source", "licence"], index=range(1, len(tasks) + 1))

# %% [markdown]
# What else to know of where they come from:

# %%
Markdown(world.about)

# %% [markdown]
# ## What the inputs look like
#
# The first training inputs of every task, one task a row.

# %%
fig, axes = plt.subplots(len(tasks), 1, figsize=(6.75, 0.36 * len(tasks)), squeeze=False)
for axis, task in zip(axes[:, 0], tasks, strict=True):
    plotting.show_inputs(axis, world.examples(task.name))
    axis.set_ylabel(f"{task.title} ({len(task.classes)})", rotation=0, ha="right", va="center")
alt = f"Contact sheet: one row of training {world.inputs} for each of {len(tasks)} tasks, from " + " to ".join(
    (tasks[0].title, tasks[-1].title)
)
plotting.save_figure(fig, "tasks", profile, alt=f"{alt}.{profiles.left_out(settings)}", source="01_tasks")
plt.close(fig)
plotting.linked("tasks", profile, alt)

# %% [markdown]
# ## How many
#
# Inputs, and the independent sources that they show, split by split:

# %%
splits = {t.title: {s: world.split(t.name, s) for s in SPLITS} for t in tasks}
counted = {
    (split, what): [value(each[split]) for each in splits.values()]
    for split in SPLITS
    for what, value in ((world.inputs, lambda s: len(s.labels)), ("sources", lambda s: len(set(s.sources))))
}
pd.DataFrame(counted, index=list(splits))

# %% [markdown]
# No two splits of a task may show the same source.

# %%
shared = [
    len(set(each[a].sources) & set(each[b].sources)) for each in splits.values() for a, b in combinations(SPLITS, 2)
]
assert not any(shared)
print(f"{len(tasks)} tasks, {sum(shared)} sources shared between two splits")
print(provenance.versions_line())
