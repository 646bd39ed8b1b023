# %% [markdown]
# # The twenty tasks
#
# The paper fine-tunes CLIP on twenty public data sets. This page shows the twenty small tasks that stand in for them:
# where their images come from, and what they look like.
#
# | | |
# |---|---|
# | Reads | photographs, scans and fonts of installed packages |
# | Writes | `figures/<profile>/tasks.{pdf,svg,png}` |
# | Paper item | none (Section 4 lists the paper's data sets) |
# | Run time | under a minute |

# %% tags=["parameters"]
profile = "mini"  # smoke or mini: how many tasks are shown

# %%
from itertools import combinations

import matplotlib.pyplot as plt
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import plotting
from compendium.worlds.protocol import SPLITS, world_of

plotting.use_style()

# %% [markdown]
# Suites are the first 8, 14 and 20 rows of one fixed order, as in the paper. *Real* tasks show photographs or scans,
# the others are rendered. Sources and seeds were fixed before any model was merged.

# %%
settings = profiles.load(profile)
world = world_of(settings)
tasks = world.tasks
rows = [(t.title, len(t.classes), "yes" if t.real else "no", t.source, t.licence) for t in tasks]
pd.DataFrame(rows, columns=["task", "classes", "real", "source", "licence"], index=range(1, len(tasks) + 1))

# %% [markdown]
# Every task is seen through its own domain shift: colours mixed, contrast lowered, a coarse pattern laid over, and
# for half of the tasks everything inverted. That is what a zero-shot model stumbles over and an expert learns.

# %%
shown = 8
fig, axes = plt.subplots(len(tasks), 1, figsize=(4, 0.36 * len(tasks)), squeeze=False)
for axis, task in zip(axes[:, 0], tasks, strict=True):
    images = world.split(task.name, "train").inputs[:shown]
    axis.imshow(images.permute(2, 0, 3, 1).flatten(1, 2).numpy(), interpolation="none")
    axis.set_ylabel(f"{task.title} ({len(task.classes)})", rotation=0, ha="right", va="center")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.grid(visible=False)
alt = f"Contact sheet: one row of {shown} training images for each of {len(tasks)} tasks, from " + " to ".join(
    (tasks[0].title, tasks[-1].title)
)
plotting.save_figure(fig, "tasks", profile, alt=alt + ".", source="01_tasks")
plt.close(fig)

# %% [markdown]
# The sheet of the mini profile (images of noise and photographs would make this page heavy, so it is linked):
#
# ![One row of eight training images for each of the twenty tasks of mini](../figures/mini/tasks.png)
#
# Test images come from other fonts, scans and sizes than training images, and from other tiles of the same photographs.
# Images, and the independent sources that they show (font faces, tiles, scans, cells of sizes), split by split:

# %%
splits = {t.title: {s: world.split(t.name, s) for s in SPLITS} for t in tasks}
counted = {
    (split, what): [value(each[split]) for each in splits.values()]
    for split in SPLITS
    for what, value in (("images", lambda s: len(s.labels)), ("sources", lambda s: len(set(s.sources))))
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
