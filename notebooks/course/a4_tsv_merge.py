# %% [markdown]
# # Assignment 4: TSV-Merge
#
# All parts of the method are there by now: task matrices, few components of each, orthogonal vectors. You will put them
# together to the paper's Algorithm 1, merge eight experts into one model, take the method apart again to see which part
# does what, and then try to do better.
#
# | | |
# |---|---|
# | You learn | TSV-Merge (TSV-M), from one matrix to a whole model; what an ablation can tell and what it cannot; how a method of one's own is judged fairly |
# | You need | assignments 1 to 3; the experts, which `make tour` trains in a few minutes |
# | Points | 20: TSV-M 6, merge 4, ablation 4, own method 2, written answer 4 |
# | Time | about two hours; all cells together run in one to two minutes |
# | Paper item | Algorithm 1, Tables 2 and 4 to 6 |
#
# You write functions where a cell says `YOUR CODE HERE`, in plain torch; the cell after it tries them on random
# matrices and small made-up models, so none of the points needs the experts. Before you hand in, restart the kernel and
# run all cells from the top.

# %% tags=["parameters"]
profile = "mini"  # whose experts
images = 100  # on how many validation images of each task a model is measured
name = ""  # under which your own method is entered for the leaderboard; empty: it is not

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import matplotlib.pyplot as plt
import torch

from compendium import profiles
from compendium.course import entries, pictures, recipes
from compendium.course.checks import a4
from compendium.paper import plotting
from compendium.study import runs
from tsvlib.methods import UPDATES

plotting.use_style()

# %% nbgrader={"grade": true, "grade_id": "seed", "locked": true, "points": 0, "schema_version": 3, "solution": false, "task": false}
COURSE_SEED = 0  # decides the inputs on which functions are tried
### BEGIN HIDDEN TESTS
COURSE_SEED = 22360
### END HIDDEN TESTS

# %% [markdown]
# ## Algorithm 1
#
# For each layer, from the task matrices $\Delta_1, \dots, \Delta_T$ of $d$ rows and $m$ columns:
#
# | Step | Formula | Shape of the result |
# |---|---|---|
# | decompose | $\Delta_i = U_i \Sigma_i V_i^\top$ | $U_i$: $d \times r$, $V_i$: $m \times r$, with $r = \min(d, m)$ |
# | truncate | the first $k = \max(1, \lfloor r / T \rfloor)$ columns and singular values | $d \times k$, $k$, $m \times k$ |
# | concatenate | $U = [U_1 \mid \dots \mid U_T]$, $V$ likewise, $\Sigma$ from all singular values in the same order | $d \times Tk$, $Tk \times Tk$, $m \times Tk$ |
# | orthogonalise | $U = P_U D_U Q_U^\top \Rightarrow U_\perp = P_U Q_U^\top$, and $V_\perp$ likewise | as before |
# | put together | $\hat M = U_\perp \Sigma\, V_\perp^\top$ | $d \times m$ |
#
# | The paper says | Its code does | We do |
# |---|---|---|
# | $\hat M$ is divided by $T$ (Equations 1 and 2) | matrices are summed and not divided; all else is averaged | what the code does |
# | every layer is treated so | 2-dimensional tensors but `text_projection` | what the code does |
# | $k = r / T$ | `int(r * (1 / T))`, which rounds down, at times by one too many | $\lfloor r / T \rfloor$ and at least 1 |

# %%
run = next(runs.of(profiles.load(profile).first_suite()))
base, tasks = run.evaluator.base, run.tasks(run.profile.tasks)
experts, layer = [run.expert(task) for task in tasks], run.first_matrix()
print(f"{len(tasks)} experts: {', '.join(tasks)}")

# %% [markdown]
# ## Exercise 1: TSV-M for one layer (6 points)
#
# Write Algorithm 1 for a list of task matrices of one layer. Twelve lines are enough. Mind that `torch.linalg.svd`
# returns $V^\top$, whose *rows* are the vectors; decide early whether you carry columns or rows, and which dimension
# you concatenate along.


# %% nbgrader={"grade": false, "grade_id": "tsv_m", "locked": false, "schema_version": 3, "solution": true, "task": false}
def tsv_m(deltas):
    """Return the update of TSV-M for the task matrices of one layer."""
    ### BEGIN SOLUTION
    k = max(1, min(deltas[0].shape) // len(deltas))
    parts = [torch.linalg.svd(delta, full_matrices=False) for delta in deltas]
    u = torch.cat([u[:, :k] for u, _, _ in parts], dim=1)
    s = torch.cat([s[:k] for _, s, _ in parts])
    vh = torch.cat([vh[:k] for _, _, vh in parts], dim=0)
    p, _, qh = torch.linalg.svd(u, full_matrices=False)
    a, _, bh = torch.linalg.svd(vh, full_matrices=False)
    return (p @ qh * s) @ (a @ bh)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_tsv_m", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
a4.check_tsv_m(tsv_m)
### BEGIN HIDDEN TESTS
a4.check_tsv_m(tsv_m, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# What does it change? Send the strongest input direction $v_{i1}$ of each task through the merged matrix, and look at
# how much of the answer goes along the strongest output direction $u_{j1}$ of each task, in units of what task $i$
# alone would say. Were all these directions orthogonal, there would be 1 on the diagonal and 0 elsewhere; what stands
# elsewhere is one task answering for another. Compare each column's own entry with its others. What did TSV-M pay?

# %%
deltas = [expert[layer] - base[layer] for expert in experts]
found = [torch.linalg.svd(matrix, full_matrices=False) for matrix in deltas]
us, vs = torch.stack([u[:, 0] for u, _, _ in found], dim=1), torch.stack([vh[0] for _, _, vh in found], dim=1)
strengths = torch.stack([s[0] for _, s, _ in found])
fig, axes = plt.subplots(1, 2, figsize=(6.75, 3.2))
for axis, title, update in zip(axes, ("sum of task matrices", "TSV-M"), (sum(deltas), tsv_m(deltas)), strict=True):
    answers = (us.mT @ update @ vs / strengths).abs()
    pictures.task_map(axis, answers.tolist(), tasks, title)
    axis.set(xlabel="asked in the direction of", ylabel="answered in that of")
plt.show()

# %% [markdown]
# ## Exercise 2: the whole model (4 points)
#
# Now all layers, $\theta = \theta_{\mathrm{base}} + \alpha\,\tau$. In $\tau$, every tensor with two dimensions is what
# `tsv_m` makes of the task matrices, except those named `text_projection`; every other tensor, and `text_projection`,
# is the *mean* of what the experts changed. $\alpha$ scales both. Do not change the base or the experts.


# %% nbgrader={"grade": false, "grade_id": "merge", "locked": false, "schema_version": 3, "solution": true, "task": false}
def merge(base, experts, alpha):
    """Return the model that TSV-M makes of experts, as a new dictionary."""
    ### BEGIN SOLUTION
    merged = {}
    for key, weight in base.items():
        deltas = [expert[key] - weight for expert in experts]
        is_matrix = weight.ndim == 2 and key != "text_projection"
        merged[key] = weight + alpha * (tsv_m(deltas) if is_matrix else sum(deltas) / len(deltas))
    return merged
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_merge", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
a4.check_merge(merge)
### BEGIN HIDDEN TESTS
a4.check_merge(merge, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# Your model beside the library's, with the $\alpha = 1$ that the paper recommends, and the accuracy of the base, the
# merged model and each task's own expert.

# %%
merged, library = merge(base, experts, 1.0), run.merged(UPDATES["tsv_m"], len(tasks)).apply(base, 1.0)
apart = sum(float((merged[key] - library[key]).square().sum()) for key in base) ** 0.5
moved = sum(float((library[key] - base[key]).square().sum()) for key in base) ** 0.5
print(f"the library's update has the length {moved:.2f}, and yours is {apart:.0e} away from it")

states = {"base": base, "merged": merged}
found = {label: run.evaluator.accuracies(state, tasks, "validation", images) for label, state in states.items()}
found["expert"] = {
    task: float(hits.float().mean()) for task, hits in run.individual("validation", tasks, images).items()
}
for task in tasks:
    print(f"{task:12} {', '.join(f'{label} {100 * shares[task]:3.0f} %' for label, shares in found.items())}")

# %% [markdown]
# ## Exercise 3: the ablation (4 points)
#
# TSV-M does two things to a sum of task matrices: it keeps few components of each, and it orthogonalises what it keeps.
# Switch each of them on or off, for one layer:
#
# | `low_rank` | `orthogonal` | |
# |---|---|---|
# | no | no | task arithmetic, $\sum_i \Delta_i$ |
# | yes | no | the sum of the truncated task matrices |
# | no | yes | *all* components of all tasks, orthogonalised |
# | yes | yes | TSV-M |
#
# In the third row $U$ has more columns than rows. Nothing about $P_U Q_U^\top$ changes, except that now its rows are
# orthonormal and its columns cannot be.


# %% nbgrader={"grade": false, "grade_id": "ablation", "locked": false, "schema_version": 3, "solution": true, "task": false}
def ablation(deltas, low_rank, orthogonal):
    """Return the update of one layer with each of the two steps of TSV-M on (True) or off (False)."""
    ### BEGIN SOLUTION
    rank = min(deltas[0].shape)
    k = max(1, rank // len(deltas)) if low_rank else rank
    parts = [torch.linalg.svd(delta, full_matrices=False) for delta in deltas]
    u = torch.cat([u[:, :k] for u, _, _ in parts], dim=1)
    s = torch.cat([s[:k] for _, s, _ in parts])
    vh = torch.cat([vh[:k] for _, _, vh in parts], dim=0)
    if orthogonal:
        (p, _, qh), (a, _, bh) = (torch.linalg.svd(x, full_matrices=False) for x in (u, vh))
        u, vh = p @ qh, a @ bh
    return (u * s) @ vh
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_ablation", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
a4.check_ablation(ablation)
### BEGIN HIDDEN TESTS
a4.check_ablation(ablation, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# The four forms on the whole model, each with several $\alpha$, since updates of different length need different ones.
# (`recipes.update` applies a function of one layer to all of them, as you did in exercise 2.) Compare the tops of the
# curves, not the curves at one $\alpha$.


# %%
def curve(method, alphas):
    """Return the normalised accuracy of a method of one layer, in per cent, for several alphas."""
    update = recipes.update(method, base, experts)
    return [100 * entries.normalised_accuracy(run, update.apply(base, alpha), images) for alpha in alphas]


forms = {
    "task_arithmetic": (False, False),
    "low_rank": (True, False),
    "interference_reduction": (False, True),
    "tsv_m": (True, True),
}
alphas = (0.2, 0.4, 0.8, 1.4, 2.0, 3.0)
curves = {form: curve(lambda deltas, on=on: ablation(deltas, *on), alphas) for form, on in forms.items()}

fig, axis = plt.subplots(figsize=(5, 2.8))
for form, values in curves.items():
    look = plotting.METHOD_STYLE[form]
    axis.plot(alphas, values, color=look.colour, marker=look.marker, label=f"{look.title}: {max(values):.1f} %")
axis.set(xlabel="alpha", ylabel="normalised accuracy (%)", ylim=(0, 100))
axis.legend()
plt.show()

# %% [markdown]
# ## Exercise 4: a method of your own (2 points)
#
# Is TSV-M the last word? Write a method of your own: from the task matrices of one layer to its update. What is no
# matrix is averaged as before. Some places to look: which components are kept, and how many of which task; what becomes
# of the singular values; what is done to directions that several tasks share; how long the update is. The points are
# for any method that hears every task, whatever their order, and gives the same twice. How good it is, the leaderboard
# tells.
#
# Define all that it needs *inside* the function: its text is handed in and run elsewhere, where there is nothing but
# `torch` and `math`.


# %% nbgrader={"grade": false, "grade_id": "own_method", "locked": false, "schema_version": 3, "solution": true, "task": false}
def own_method(deltas):
    """Return an update of one layer, made of the task matrices of all tasks."""

    ### BEGIN SOLUTION
    # One of many: TSV-M in which all kept directions count the same, so that strong tasks do not drown weak ones.
    def orthogonal(x):
        p, _, qh = torch.linalg.svd(x, full_matrices=False)
        return p @ qh

    k = max(1, min(deltas[0].shape) // len(deltas))
    parts = [torch.linalg.svd(delta, full_matrices=False) for delta in deltas]
    u = torch.cat([u[:, :k] for u, _, _ in parts], dim=1)
    vh = torch.cat([vh[:k] for _, _, vh in parts], dim=0)
    return torch.cat([s[:k] for _, s, _ in parts]).mean() * orthogonal(u) @ orthogonal(vh)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_own_method", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
a4.check_own_method(own_method)
### BEGIN HIDDEN TESTS
a4.check_own_method(own_method, seed=COURSE_SEED)
### END HIDDEN TESTS

# %%
for alpha, value in zip(alphas, curve(own_method, alphas), strict=True):
    print(f"alpha {alpha:.1f}: {value:.1f} %")

# %% [markdown]
# ## The leaderboard
#
# You have tried several methods and alphas on the same few images, and kept what did best there. So your number is too
# good, by an amount that nobody knows. The leaderboard measures what you never saw: your method merges experts that
# were trained with other random seeds, and is measured on test images.
#
# Give your method a `name` in the first cell, say in `words` what it does, choose `alpha`, and hand in the file that
# this cell writes. It holds your merged model with its digest, the text of your function, and the accuracy that you
# measured. All three are checked: the model is measured again, and your function is run again. What is not so is
# refused. A place on the leaderboard gives no points.

# %%
words = "what it does, in a sentence"
alpha = 1.0  # your choice, from the numbers above
if name:
    file = entries.enter(run, own_method, name, words, alpha=alpha, images=images)
    entry, _ = entries.load(file)
    print(f"{file}: {100 * entry.measured:.1f} % with alpha = {entry.alpha}, weights {entry.weights[:12]}")

# %% [markdown]
# ## Question: what makes it work, and what you make of it (4 points)
#
# In eight to twelve sentences, with the numbers that you have seen:
#
# 1. Which of the two steps of TSV-M gains something alone, and which only together with the other? Explain it: what
#    does truncation do for orthogonalisation? (Exercise 5 of assignment 3 has the picture.)
# 2. TSV-M is best here at another $\alpha$ than task arithmetic. Why?
# 3. What was the idea of your own method, what did you expect, and what came of it? Each accuracy rests on 100 images
#    of each of eight tasks. Which difference to TSV-M would you believe, and how would you find out whether it is real?

# %% [markdown] nbgrader={"grade": true, "grade_id": "what_makes_it_work", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# 1. By the tops of the curves (on one machine) task arithmetic has 75.2 %, low rank alone 75.6 %, orthogonalising alone
# 76.4 %: gains that are no larger than the noise. Both together have 81.6 %. All components of eight tasks are eight
# times as many vectors as there are dimensions. They cannot be orthonormal, so that interference stays, and they are
# moved far. A share of 1/T of them has just room, moves less, and leaves no interference. Truncating alone costs
# little, because the first components hold most of a task matrix, and gains nothing, because these interfere like all.
# (2 points: one for the numbers, one for the room that truncation makes.)
#
# 2. In the sum, tasks that share directions add up: the map shows answers of more than 1 on the diagonal, and as much
# elsewhere. Orthogonalised vectors share nothing, and each is turned away from where its task wanted it: answers are
# less than one half. So TSV-M needs, and bears, a larger alpha. (1 point.)
#
# 3. Any idea with an expectation that could have failed, and a result. A share of 800 images has a standard error of up
# to 1.8 points, the difference of two models on the same images a smaller one, and the best of six alphas on the same
# images is too good besides. So a difference of one or two points is nothing yet: measure both on other images, paired,
# with alphas chosen before, and for experts of other seeds. (1 point.)
# ### END SOLUTION

# %% [markdown]
# ## Try
#
# - Keep twice the share of components, or half of it. Is $1/T$ the best share, and what must break when it is more?
# - Orthogonalise one side alone. STI is zero then, too; is the accuracy that of TSV-M?
# - Merge two tasks that interfere much by the map of assignment 3, and two that interfere little. Does STI tell what
#   the merged model loses?
