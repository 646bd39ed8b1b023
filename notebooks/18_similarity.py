# %% [markdown]
# # Which singular vectors of different tasks look alike
#
# Interference begins where singular vectors of one task are not orthogonal to those of another. For one task matrix,
# all inner products make a map: the identity in blocks of one task, and between two tasks whatever they share.
#
# | | |
# |---|---|
# | You learn | how to see which directions tasks share, and how to tell that from chance |
# | Reads | `checkpoints.csv` and the experts |
# | Writes | `data/results/<profile>/similarity.csv` |
# | Paper item | Figure 3 |
# | Run time | mini: 10 seconds on 2 CPU cores; minilm: 20 seconds; smoke: seconds |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: which models and tasks
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all
layer = ""  # the task matrix that is looked at, such as visual.proj; empty: the first one
components = 16  # how many leading components of each task are compared
further_seeds = 0  # how many seeds per backbone beyond those of the profile

# %%
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import results
from compendium.study import runs, similarity
from tsvlib import progress

# %% [markdown]
# ## The map
#
# As in the paper: the first task matrix of the first layer (a CLIP's attention) of the first backbone, the smallest
# suite. Sixteen components of each task are enough for a picture that can still be read. Parameters choose others.

# %%
settings = profiles.load(profile, backbones, suites).with_further_seeds(further_seeds)
with progress.track(1, "comparing singular vectors") as bar:
    run = next(runs.of(settings))
    key = layer or run.first_matrix()
    frame = pd.DataFrame(similarity.maps(run, settings.suites[0], key, components))
    bar.update()

# %% [markdown]
# Directions of nearly equal strength turn into each other on another machine. Experts that differ by 0.0006 in norm
# change no entry by more than 0.001; with some room to spare:

# %%
results.save("similarity", frame, profile, similarity.COLUMNS, tolerances={"similarity": 0.05})
frame.groupby("vectors").similarity.describe().round(3)

# %% [markdown]
# How much tasks share beyond chance: the root of the mean squared inner product between vectors of different tasks,
# beside that of random directions, one over the root of the dimension.

# %%
shape = run.suite_on_disk(run.tasks(1)).shapes[key]
between = frame[frame["first"] // components != frame["second"] // components]
found = between.groupby("vectors").similarity.apply(lambda values: (values**2).mean() ** 0.5)
pd.DataFrame({"between tasks": found, "random": [side**-0.5 for side in shape]}).round(3)

# %% [markdown]
# Vectors have length one, and those of one task are orthogonal to each other.

# %%
same = frame[frame["first"] // components == frame["second"] // components]
expected = (same["first"] == same["second"]).astype(float)
assert (same.similarity - expected).abs().max() < 0.002
assert frame.similarity.abs().max() < 1.002
print(provenance.versions_line())

# %% [markdown]
# ## Try
#
# Change the cell of parameters and run all cells again, or type a line such as the next one. Either writes into `build`
# alone.
#
# ```
# python -m compendium run notebooks/18_similarity.py -p components=4
# ```
#
# 1. `components = 4`, and then `64`: do tasks share more of their strongest directions or of weaker ones, by the table
#    above?
# 2. `layer = "visual.proj"` (in minilm another name; a wrong one is answered with a list): are left or right vectors
#    shared more there, and what do both sides of that layer stand for?
