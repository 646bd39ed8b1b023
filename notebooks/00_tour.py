# %% [markdown]
# # A tour in ten minutes
#
# Fine-tune one model on several tasks and add up what each task changed: the tasks get in each other's way. Task
# singular vectors show why, and how to prevent it. This notebook walks through the whole idea on one layer, then
# merges a few models.
#
# | | |
# |---|---|
# | Reads | the experts of one backbone in the first suite (`make tour` trains them) |
# | Writes | nothing |
# | Paper item | Sections 3 and 4: task matrices, singular task interference, TSV-Merge |
# | Run time | under a minute on 2 CPU cores |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: which models and tasks
layer = ""  # the task matrix that the first half looks at, such as visual.proj; empty: the first one

# %%
import itertools

import matplotlib.pyplot as plt
import torch

from compendium import profiles, provenance
from compendium.paper import plotting
from compendium.study import runs
from tsvlib import linalg, sti
from tsvlib.methods import METHODS

plotting.use_style()

# %% [markdown]
# ## Task vectors
#
# A *task vector* is what fine-tuning changed: expert minus base. Each of its two-dimensional tensors is a *task
# matrix* Δ. The words of the library and the paper's symbols:
#
# | Here | Paper | Meaning |
# |---|---|---|
# | `n_tasks` | T | how many experts are merged |
# | `delta` | Δᵢ | task matrix: one layer's change for task i |
# | `u, s, vh` | Uᵢ, Σᵢ, Vᵢᵀ | its singular value decomposition; columns of U and V are *task singular vectors* |
# | `k` | k | how many singular components of each task are kept |
# | `alpha` | α | how much of the merged update is added to the base |

# %%
settings = profiles.load(profile).first_suite()
run = next(runs.of(settings))
n_tasks = settings.tasks
tasks = run.tasks(n_tasks)
vectors = [run.task_vector(task) for task in tasks]
print(f"{run.evaluator.backbone.label}: {n_tasks} experts, for {', '.join(tasks)}")
print(f"task matrices per expert: {len(vectors[0].matrices)}")

# %% [markdown]
# ## Vectors of whole models
#
# What fine-tuning changed is a vector: it can be added up, scaled and compared. Were those of different tasks of one
# length and orthogonal, their mean would be shorter than each by the square root of their number.

# %%
cosines = [one.dot(two) / (one.norm() * two.norm()) for one, two in itertools.combinations(vectors, 2)]
shorter = vectors[0].norm() / (sum(vectors) / n_tasks).norm()
print(f"cosines between task vectors: {min(cosines):.3f} to {max(cosines):.3f}")
print(f"the first is {shorter:.2f} times as long as their mean; the square root of n_tasks is {n_tasks**0.5:.2f}")

# %% [markdown]
# ## One layer, decomposed
#
# Singular values fall quickly: a task needs only a few directions of a layer. The dashed line marks how many
# components each task may keep if the tasks share the layer's rank evenly, k = rank / n_tasks.

# %%
shown = layer or run.first_matrix()
factors = [linalg.svd(vector.matrix(shown)) for vector in vectors]
k = linalg.kept_rank(len(factors[0].s), 1 / n_tasks)
fig, axis = plt.subplots(figsize=(5, 2.6))
for task, (_, s, _) in zip(tasks, factors, strict=True):
    axis.plot(range(1, len(s) + 1), s / s[0], label=task)
axis.axvline(k, color="black", linestyle="--")
axis.set(xscale="log", xlabel="singular component", ylabel="singular value / largest")
axis.legend(fontsize=6)
plt.show()

# %% [markdown]
# The next lines say the same in one number: the share of the squared weight changes that the kept components hold.

# %%
shares = torch.stack([(s[:k] ** 2).sum() / (s**2).sum() for _, s, _ in factors])
print(f"{k} of {len(factors[0].s)} components hold {100 * shares.mean():.1f} % of a task matrix (mean over tasks)")

# %% [markdown]
# ## Interference
#
# If the singular vectors of different tasks were orthogonal, each task's input directions would reach only its own
# output directions. *Singular task interference* (Eq. 6) measures how far they are from that. Orthogonalising the
# kept vectors of all tasks together (the closest orthogonal ones, by Procrustes) removes it by construction.

# %%
kept = [linalg.truncate(factor, k) for factor in factors]
u = linalg.orthogonalise(torch.cat([factor.u for factor in kept], dim=1)).split(k, dim=1)
vh = linalg.orthogonalise(torch.cat([factor.vh for factor in kept])).split(k)
free = [linalg.Factors(*parts) for parts in zip(u, (factor.s for factor in kept), vh, strict=True)]
before, after = (sti.singular_task_interference(each).entrywise for each in (kept, free))
print(f"interference of the kept components: {before:.3g} before, {after:.1g} after orthogonalisation")

# %% [markdown]
# ## One merge
#
# The same step in every layer is TSV-Merge. Here it stands beside task arithmetic, which adds the task vectors as
# they are. Both models are measured on validation inputs only, at a few values of alpha; notebook 13 does it
# properly.

# %%
for name, alphas in {"task_arithmetic": (0.1, 0.2, 0.4), "tsv_m": (0.5, 1.0, 1.5)}.items():
    update = run.merged(METHODS[name], n_tasks)
    for alpha in alphas:
        state = update.apply(run.evaluator.base, alpha)
        accuracies = run.evaluator.accuracies(state, tasks, "validation").values()
        print(f"{METHODS[name].title:16} alpha {alpha:.1f}: {100 * sum(accuracies) / n_tasks:.1f} % on average")

# %% [markdown]
# What must hold whatever the data: orthogonal vectors do not interfere.

# %%
assert after < 1e-3 * before
print(provenance.versions_line())
