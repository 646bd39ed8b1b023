# %% [markdown]
# # A tour in ten minutes
#
# Fine-tune one model on several tasks and add up what each task changed: the tasks get in each other's way. Task
# singular vectors show why, and how to prevent it. This notebook walks through the whole idea on one layer, line by
# line, then merges a few models, first by hand in twelve lines, and ends with a picture that you can move.
#
# | | |
# |---|---|
# | You learn | what a task matrix is, where interference comes from, Algorithm 1, what the paper leaves open |
# | Reads | the experts of one backbone in the first suite (`make tour` trains them) |
# | Writes | nothing |
# | Paper item | Sections 3 and 4: task matrices, singular task interference, TSV-Merge |
# | Run time | under a minute on 2 CPU cores |

# %% tags=["parameters"]
profile = "mini"  # mini, minilm or smoke: which models and tasks
backbones = ""  # only these of its backbones, with commas between them; empty: all
suites = ""  # only suites of so many tasks, such as 8, 14; empty: all
layer = ""  # the task matrix that the first half looks at, such as visual.proj; empty: the first one
rank = ""  # how much each task keeps, a share such as 1/4 or a number such as 8; empty: one over the number of tasks
alpha = 1.0  # how much of the merged update is added to the base

# %%
import itertools

import matplotlib.pyplot as plt
import pandas as pd
import torch

from compendium import profiles, provenance
from compendium.paper import maps, plotting, sliders
from compendium.study import runs
from compendium.study.tour import Tour, kept
from tsvlib import linalg, sti
from tsvlib.compression import Rank
from tsvlib.methods import UPDATES, tsv

plotting.use_style()

# %% [markdown]
# ## Task vectors
#
# A *task vector* is what fine-tuning changed: expert minus base. Each of its two-dimensional tensors is a *task
# matrix* $\Delta_i$. The words of the library and the paper's symbols:
#
# | Here | Paper | Meaning |
# |---|---|---|
# | `n_tasks` | $T$ | how many experts are merged |
# | `delta` | $\Delta_i$ | task matrix: one layer's change for task $i$ |
# | `u, s, vh` | $U_i, \Sigma_i, V_i^\top$ | its singular value decomposition, with the *task singular vectors* |
# | `k` | $k$ | how many singular components of each task are kept |
# | `alpha` | $\alpha$ | how much of the merged update is added to the base |

# %%
settings = profiles.load(profile, backbones, suites).first_suite()
run, n_tasks = next(runs.of(settings)), settings.tasks
chosen = Rank.parse(rank) if rank else Rank(fraction=1 / n_tasks)
base, tasks = run.evaluator.base, run.tasks(n_tasks)
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
# Singular values fall quickly: a task needs only a few directions of a layer. One line is one task; the dashed line
# marks how many components each task may keep if the tasks share the layer's rank evenly, $k = \lfloor r / T \rfloor$.

# %%
shown = layer or run.first_matrix()
factors = [linalg.svd(vector.matrix(shown)) for vector in vectors]
few = [kept(factor, chosen) for factor in factors]
k, most = max(len(factor.s) for factor in few), len(factors[0].s)
fig, axis = plt.subplots(figsize=(5, 2.2))
for factor in factors:
    axis.plot(range(1, most + 1), factor.s / factor.s[0], color=plotting.METHOD_STYLE["tsv_c"].colour, linewidth=0.6)
axis.axvline(k, color="black", linestyle="--")
axis.set(xlabel=f"singular component of {shown}", ylabel="singular value / largest", xlim=(1, most))
plt.show()
held = torch.stack([few.s.square().sum() / whole.s.square().sum() for few, whole in zip(few, factors, strict=True)])
print(f"{k} of {most} components hold {100 * held.mean():.1f} % of the squared changes (mean over tasks)")

# %% [markdown]
# ## Algorithm 1, step by step
#
# What TSV-Merge does to one layer, beside the calls that do it here; $\Delta_i$ has $m$ rows and $n$ columns, and its
# rank is $r = \min(m, n)$.
#
# | Step | The paper | The call | Shapes |
# |---|---|---|---|
# | 1 | $\Delta_i = \theta_i - \theta_\mathrm{pre}$ | `run.task_vector(task).matrix(shown)` | $m \times n$ |
# | 2 | $\Delta_i = U_i \Sigma_i V_i^\top$ | `linalg.svd(delta)` | $m \times r$, $r$, $r \times n$ |
# | 3 | keep the first $k = \lfloor r/T \rfloor$ | `linalg.truncate(factors, k)` | $m \times k$, $k$, $k \times n$ |
# | 4 | $U = [U_1 \cdots U_T]$, so $\Sigma$ and $V$ | `tsv.together(few)` | $m \times Tk$, $Tk$, $Tk \times n$ |
# | 5 | $U = P_U D_U Q_U^\top,\; U_\perp = P_U Q_U^\top$, $V_\perp$ alike | `linalg.orthogonalise(u)` | as before |
# | 6 | $\hat M = U_\perp \Sigma V_\perp^\top$ | `u * s @ vh` | $m \times n$ |
# | 7 | $\theta = \theta_\mathrm{pre} + \alpha \hat M$ | `base[shown] + alpha * update` | $m \times n$ |
#
# Step 5 is the heart: of all matrices with orthonormal columns, $U_\perp$ is the closest to $U$ (Procrustes). What is
# no matrix, such as a bias, is averaged. The same steps, with the shapes that they have here:

# %%
u, s, vh = tsv.together(few)
u_free, vh_free = linalg.orthogonalise(u), linalg.orthogonalise(vh)
update = u_free * s @ vh_free
merged = base[shown] + alpha * update
steps = {"delta": vectors[0].matrix(shown), "U of one task": factors[0].u, "U of one task, kept": few[0].u, "U": u}
steps |= {"V transposed": vh, "U orthogonalised": u_free, "update": update, "merged": merged}
pd.DataFrame({"shape": [tuple(each.shape) for each in steps.values()]}, index=list(steps)).T

# %% [markdown]
# ## Interference, before and after
#
# Were the singular vectors of different tasks orthogonal, each task's input directions would reach only its own output
# directions. *Singular task interference* measures how far they are from that (Equation 6):
#
# $$\mathrm{STI} = \left\| (U^\top U - I)\, \Sigma\, (V^\top V - I) \right\|_1$$
#
# Each map below holds all pairs of leading components, eight of each task, task by task. Colour away from the diagonal
# of the first two is what tasks share, and the third is what that does to their sum. Step 5 leaves nothing of it, as
# long as all tasks together keep no more components than the layer has dimensions.

# %%
free = tsv.orthogonalised(few)
before, after = sti.singular_task_interference(few).entrywise, sti.remaining_interference(free).entrywise
maps.before_and_after(few, free)
plt.show()
print(f"interference of the kept components: {before:.4g} before, {after:.1g} after orthogonalisation")

# %% [markdown]
# ## TSV-M in twelve lines
#
# The whole method, for all layers, in plain torch and nothing else. It takes two decompositions of what all tasks keep
# besides one for each task. Where a singular value is nothing but rounding, there is no direction to keep.

# %%
merged, change = dict(base), {}
for key, start in base.items():
    deltas = torch.stack([vector[key] for vector in vectors])
    change[key] = deltas.mean(0)
    if deltas.ndim == 3 and deltas.any() and "text_projection" not in key and min(deltas.shape[1:]) >= n_tasks:
        u, s, vh = torch.linalg.svd(deltas, full_matrices=False)
        k, kept = s.shape[1] // n_tasks, s > 1e-5 * s[:, :1]
        p, d, q = torch.linalg.svd(torch.cat([*(u * kept[:, None])[:, :, :k]], dim=1), full_matrices=False)
        change[key] = (p * (d > 1e-5)) @ q * s[:, :k].flatten()
        p, d, q = torch.linalg.svd(torch.cat([*(vh * kept[..., None])[:, :k]], dim=0), full_matrices=False)
        change[key] = change[key] @ (p * (d > 1e-5)) @ q
    merged[key] = start + alpha * change[key]

# %% [markdown]
# The library comes to the same with less work, as [bench](../bench/README.md) measures. Here its models stand beside
# those of task arithmetic, which adds the task vectors as they are, between the base and the experts. All are measured
# on validation inputs only, at a few values of alpha; [notebook 13](13_merge.ipynb) does it properly.

# %%
tour, library = Tour(run, n_tasks), run.merged(UPDATES["tsv_m"], n_tasks)
off = max(float((change[key] - library[key]).norm() / library[key].norm().clamp_min(1e-30)) for key in base)
print(f"by hand and by the library, tensors differ by {off:.0e} of their norm at most")
measured = {plotting.METHOD_STYLE[name].title: found for name, found in tour.references.items()}
for name, alphas in {"task_arithmetic": (0.2, 0.4), "tsv_m": (0.5, 1.0, 1.5)}.items():
    found = run.merged(UPDATES[name], n_tasks)
    measured |= {f"{UPDATES[name].title}, alpha = {a}": tour.measured(found.apply(base, a)) for a in alphas}
(100 * pd.DataFrame(measured).T).assign(mean=lambda table: table.mean(axis=1)).round(1)

# %% [markdown]
# ## What the paper says, and what the released code does
#
# Whoever compares numbers should know where the two differ. The library follows the code wherever numbers depend on it.
#
# | | The paper says | The released code does |
# |---|---|---|
# | Scale | the sum over $T$ (Equations 1 and 2) | matrices: the sum, not divided; all else: the mean |
# | Tensors | task matrices, layer by layer | all two-dimensional ones but `text_projection`, positions too |
# | Attention | nothing | query, key, value as files have them: one $3d \times d$ matrix if fused, else three |
# | Rank | $k = r/T$ | rounded down; the remaining columns stay zero (14 tasks: 12 of 768) |
# | Whitening | the same as Procrustes (Proposition 4.1) | eigenvectors, $1/(\sqrt{\lvert\lambda\rvert} + 10^{-12})$ |
# | Interference | a 1-norm, not which one | nothing; here are both, and maps and numbers show the entrywise one |
# | $\alpha$ | recommends 1; one grid for all methods | a search on labels; task arithmetic has another grid |

# %% [markdown]
# ## Move it
#
# Where a kernel runs, sliders stand above the picture: the layer that is shown, how much each task keeps of every
# layer, and alpha. A new rank merges the whole model anew and a new alpha measures it again, which takes a moment. Read
# without a kernel, the picture stands still, at the values of the parameters.

# %%
ranks = ({} if chosen in tour.ranks.values() else {rank: chosen}) | tour.ranks
alphas = {f"{each:.4g}": each for each in sorted({*UPDATES["tsv_m"].alphas, alpha})}
choices = {"layer": (tour.layers, shown), "rank": (ranks, chosen), "alpha": (alphas, alpha)}
moving = {name: sliders.Slider(*choice) for name, choice in choices.items()}
sliders.show(lambda **values: maps.look(*tour.look(**values)), moving)

# %% [markdown]
# What must hold whatever the data: orthogonal vectors do not interfere, and twelve lines are enough.

# %%
assert chosen != Rank(fraction=1 / n_tasks) or after < 1e-3 * before
assert off < 1e-3
print(provenance.versions_line())

# %% [markdown]
# ## Try
#
# Move the sliders, or change the cell of parameters and run all cells again. Without JupyterLab:
# `python -m compendium run notebooks/00_tour.py -p rank=1/2`, which writes into `build` alone.
#
# 1. `rank`: let each task keep a single component (`rank = "1"`), and then half of them (`"1/2"`). When does step 5 no
#    longer remove all interference, and why there? What happens to accuracy at both ends?
# 2. `layer` and `alpha`: do late layers interfere as much as the first one? Does the alpha that is best for TSV-M stay
#    near 1 when each task keeps twice as much?
