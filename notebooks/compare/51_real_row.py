# %% [markdown]
# # The real row
#
# One row of the paper's Table 2 from real checkpoints, where this machine has them: zero-shot model, individual
# experts, task arithmetic, and TSV-M with alpha = 1 and with the alpha that validation images choose. Nothing of it
# comes with this checkout; where something is missing, the notebook names it, and cells read *not run*.
#
# | | |
# |---|---|
# | Reads | checkpoints and images that `data/clip/local.toml` or the parameters name, published numbers |
# | Writes | nothing but this page; experts and decoded images, in the cache |
# | Paper item | Table 2, one column |
# | Run time | seconds where nothing is there; else estimated in `data/clip/README.md`, as nobody has measured it |

# %% tags=["parameters"]
profile = "clip"  # whose tasks and images
backbone = "ViT-B-32"  # which of its models
n_tasks = 8  # how many of its first tasks; one of the numbers in its profile
checkpoints = ""  # the folder of the checkpoints; empty: as data/clip/local.toml says
source = ""  # who published them: tall-masks, tsv, task-arithmetic or fusion-bench; empty: as data/clip/local.toml says
generation = ""  # which expert of DTD they have: old, clean or unknown; empty: as data/clip/local.toml says

# %%
import pandas as pd

from compendium import profiles, provenance
from compendium.paper import comparison
from compendium.study import real_row
from compendium.worlds.clip import settings
from compendium.worlds.protocol import world_of

# %% [markdown]
# ## What is there
#
# Experts of another source than before are read again and take the place of those in the cache.

# %%
settings.read_instead(source, checkpoints, generation)
part = profiles.load(profile, backbone, str(n_tasks)).first_seeds()
lacks = real_row.lacking(part)
print(real_row.told(lacks) or "Everything is there.")

# %% [markdown]
# ## The row
#
# Accuracy in percent, in parentheses normalised accuracy, whose denominators are in each column the experts of that
# column. The paper's experts and those of FusionBench are different ones: for 8 tasks of ViT-B/32, 85.86 (92.31) is
# what to compare with for the paper's experts, 83.06 for FusionBench's.

# %%
rows, ahead = ([], "") if lacks else real_row.measured(part)
table = comparison.beside_published(pd.DataFrame(rows), part)
table

# %% [markdown]
# Whose experts and which images the columns rest on. The paper's expert of DTD had seen test images; without that,
# accuracies and denominators are lower.

# %%
print(comparison.versions(world_of(part).stated))
print(ahead or "not run: whether an expert does much better on test than on validation images")

# %% [markdown]
# Every cell is measured, or none.

# %%
assert (table.here == "not run").sum() in (0, len(table))
assert bool(lacks) == (table.here == "not run").any()
print(provenance.versions_line())
