# %% [markdown]
# # Assignment 3: interference
#
# Assignment 0 showed two tasks that get in each other's way, in the plane. Here are eight of them in a layer with
# hundreds of directions. You will look at which singular vectors the tasks share, put a number on it, remove it in two
# ways, and prove that the two are one.
#
# | | |
# |---|---|
# | You learn | maps of similarity between singular vectors; singular task interference (STI) for any number of tasks; whitening; why whitening and Procrustes are the same matrix, and why a computer can tell them apart |
# | You need | assignments 0 and 2; eigenvalues of symmetric matrices; the experts, which `make tour` trains in a few minutes |
# | Points | 20: side by side 2, similarity 2, interference 4, whitening 4, Procrustes error 2, written proof 6 |
# | Time | about two hours; all cells together run in seconds |
# | Paper item | Figures 3, 5 and 6, Equation 6, Proposition 4.1, Theorem 6.1 |
#
# You write functions where a cell says `YOUR CODE HERE`, in plain torch; the cell after it tries them on random
# matrices, so none of the points needs the experts. Before you hand in, restart the kernel and run all cells from the
# top.

# %% tags=["parameters"]
profile = "mini"  # whose experts

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math

import matplotlib.pyplot as plt
import torch

from compendium import profiles
from compendium.course import pictures
from compendium.course.checks import a3
from compendium.paper import plotting
from compendium.study import runs

plotting.use_style()

# %% nbgrader={"grade": true, "grade_id": "seed", "locked": true, "points": 0, "schema_version": 3, "solution": false, "task": false}
COURSE_SEED = 0  # decides the inputs on which functions are tried
### BEGIN HIDDEN TESTS
COURSE_SEED = 17320
### END HIDDEN TESTS

# %% [markdown]
# ## Task singular vectors
#
# `factors(name)` decomposes the task matrices $\Delta_i = U_i \Sigma_i V_i^\top$ of all experts in one layer, and
# returns three lists, one entry per task: the columns of $U_i$, the singular values, the columns of $V_i$. With `k`,
# only the $k$ leading components are kept. Read how it turns $V_i^\top$ into $V_i$; you will not have to do it again.

# %%
run = next(runs.of(profiles.load(profile).first_suite()))
base, tasks = run.evaluator.base, run.tasks(run.profile.tasks)
experts, matrices, layer = [run.expert(task) for task in tasks], run.task_vector(tasks[0]).matrices, run.first_matrix()


def factors(name, k=None):
    """Return lists of the U, the singular values and the V of all tasks in one layer."""
    parts = [torch.linalg.svd(expert[name] - base[name], full_matrices=False) for expert in experts]
    return [u[:, :k] for u, _, _ in parts], [s[:k] for _, s, _ in parts], [vh[:k].mT for _, _, vh in parts]


def share(name):
    """Return how many components of a layer each task gets where all tasks share them evenly."""
    return max(1, min(base[name].shape) // len(tasks))


print(f"{len(tasks)} tasks, {layer}: {tuple(base[layer].shape)}, of which each task gets {share(layer)} components")

# %% [markdown]
# ## Exercise 1: the vectors of all tasks (2 points)
#
# Put the blocks of all tasks side by side, task after task, $U = [\,U_1 \mid U_2 \mid \dots \mid U_T\,]$. The argument
# is a list of matrices with $d$ rows and $k$ columns each, the result has $d$ rows and $T k$ columns.


# %% nbgrader={"grade": false, "grade_id": "side_by_side", "locked": false, "schema_version": 3, "solution": true, "task": false}
def side_by_side(blocks):
    """Return one matrix with the columns of all blocks, in their order."""
    ### BEGIN SOLUTION
    return torch.cat(blocks, dim=1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_side_by_side", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
a3.check_side_by_side(side_by_side)
### BEGIN HIDDEN TESTS
a3.check_side_by_side(side_by_side, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 2: the similarity map (2 points)
#
# Everything that follows depends on the inner products of these vectors with each other. For a matrix $X$ with the
# vectors as columns, all of them together are
#
# $$X^\top X, \qquad (X^\top X)_{ab} = x_a^\top x_b .$$


# %% nbgrader={"grade": false, "grade_id": "similarity", "locked": false, "schema_version": 3, "solution": true, "task": false}
def similarity(x):
    """Return the inner products of all pairs of columns of a matrix."""
    ### BEGIN SOLUTION
    return x.mT @ x
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_similarity", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
a3.check_similarity(similarity)
### BEGIN HIDDEN TESTS
a3.check_similarity(similarity, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# The eight leading vectors of each task, as Figure 3 of the paper draws them: purple and orange for products of either
# sign, white for orthogonal vectors. What is on the diagonal, and what is in the blocks along it? Where tasks share
# directions, a block away from the diagonal has colour. Do they share more of what they read ($V$) or of what they
# write ($U$)?

# %%
leading = factors(layer, 8)
fig, axes = plt.subplots(1, 2, figsize=(6.75, 3.2))
for axis, title, blocks in zip(axes, (r"$U^\top U$", r"$V^\top V$"), (leading[0], leading[2]), strict=True):
    pictures.similarity_map(axis, similarity(side_by_side(blocks)), tasks, title)
plt.show()

# %% [markdown]
# ## Exercise 3: singular task interference (4 points)
#
# In assignment 0 you worked out STI for two tasks of rank one. Equation 6 is the same for any number of tasks and
# components,
#
# $$\mathrm{STI} = \bigl\|(U^\top U - I)\,\Sigma\,(V^\top V - I)\bigr\|_1 ,$$
#
# with the vectors of all tasks side by side in $U$ and $V$, and their singular values on the diagonal of $\Sigma$, in
# the same order. As before, $\|\cdot\|_1$ is the sum of the absolute values of all entries. The arguments are $U$, the
# singular values as a vector, and $V$; vectors are columns of both.


# %% nbgrader={"grade": false, "grade_id": "sti", "locked": false, "schema_version": 3, "solution": true, "task": false}
def sti(u, s, v):
    """Return the singular task interference of all tasks of a layer as a float."""
    ### BEGIN SOLUTION
    eye = torch.eye(len(s))
    return float(((u.mT @ u - eye) @ torch.diag(s) @ (v.mT @ v - eye)).abs().sum())
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_sti", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
a3.check_sti(sti)
### BEGIN HIDDEN TESTS
a3.check_sti(sti, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# Who disturbs whom? On the left, STI of every *pair* of tasks in this layer, as a share of the largest. On the right,
# STI of all tasks together in every matrix of the model, divided by the sum of the singular values, so that matrices
# that changed much do not look worse for that alone. (The number before a name is that of the layer.)


# %%
def joined(us, ss, vs):
    """Return all U side by side, all singular values end to end, and all V side by side."""
    return side_by_side(us), torch.cat(ss), side_by_side(vs)


def kept(name):
    """Return these for the components of a layer that TSV-Merge keeps, an even share for each task."""
    return joined(*factors(name, share(name)))


def of_pair(one, two):
    """Return the STI of the leading vectors of two tasks in the layer."""
    return sti(*joined(*([each[one], each[two]] for each in leading)))


numbers = range(len(tasks))
pairs = [[of_pair(one, two) if one != two else 0.0 for two in numbers] for one in numbers]
largest = max(map(max, pairs))
relative = [sti(u, s, v) / float(s.sum()) for u, s, v in map(kept, matrices)]

fig, (left, right) = plt.subplots(1, 2, figsize=(6.75, 3.2))
pictures.task_map(left, [[value / largest for value in row] for row in pairs], tasks, "STI of two tasks / largest")
places = [run.evaluator.world.place(name) for name in matrices]
labels = [f"{number} {name}" if number >= 0 else name for number, name in places]
right.barh(labels, relative, color=pictures.COLOURS[0])
right.set(xlabel="STI / sum of singular values")
right.invert_yaxis()
right.grid(visible=False)
right.tick_params(axis="y", labelsize=5)
plt.show()

# %% [markdown]
# ## Exercise 4: whitening (4 points)
#
# Statisticians have a way of their own to make columns orthonormal. If $X^\top X$ is not the identity, multiply $X$ by
# what makes it so:
#
# $$W = X\,(X^\top X)^{-1/2}, \qquad
# W^\top W = (X^\top X)^{-1/2}\,(X^\top X)\,(X^\top X)^{-1/2} = I .$$
#
# A power of a symmetric matrix is that of its eigenvalues: with $X^\top X = Q \Lambda Q^\top$,
#
# $$(X^\top X)^{-1/2} = Q\,\Lambda^{-1/2} Q^\top .$$
#
# `torch.linalg.eigh` returns the eigenvalues and $Q$, whose columns are the eigenvectors. Use it here, not the SVD. $X$
# has at least as many rows as columns, and independent columns.


# %% nbgrader={"grade": false, "grade_id": "whiten", "locked": false, "schema_version": 3, "solution": true, "task": false}
def whiten(x):
    """Return x times the inverse square root of xᵀx."""
    ### BEGIN SOLUTION
    eigenvalues, q = torch.linalg.eigh(x.mT @ x)
    return x @ (q * eigenvalues.rsqrt()) @ q.mT
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_whiten", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
a3.check_whiten(whiten)
### BEGIN HIDDEN TESTS
a3.check_whiten(whiten, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# The same layer with the share of components that TSV-Merge keeps, before and after, in float64. What is left of STI is
# rounding.

# %%
u, s, v = (x.double() for x in kept(layer))
fig, axes = plt.subplots(1, 2, figsize=(6.75, 3.2))
for axis, title, right in zip(axes, ("before", "after whitening"), (v, whiten(v)), strict=True):
    pictures.similarity_map(axis, similarity(right), tasks, rf"$V^\top V$ {title}")
plt.show()
print(f"STI: {sti(u, s, v):,.0f} before, {sti(whiten(u), s, whiten(v)):.0e} after")

# %% [markdown]
# ## Question: whitening is Procrustes (6 points)
#
# In assignment 0 you made columns orthonormal in another way: by the Procrustes problem, whose solution is $P Q^\top$
# for $X = P D Q^\top$. Proposition 4.1 says that this is the same matrix. Prove it, on paper or here (formulas between
# dollar signs are typeset), for an $X$ with $d$ rows and $m \le d$ independent columns.
#
# 1. Show that $X (X^\top X)^{-1/2} = P Q^\top$.
# 2. Show that no $Y$ with $Y^\top Y = I$ is closer to $X$ than $P Q^\top$ is, in the Frobenius norm. (Expand
#    $\|Y - X\|_F^2$, see which term depends on $Y$, and put the SVD of $X$ into it.)
# 3. Where did you need independent columns? Can the vectors of $T$ tasks have that property if each task keeps more
#    than $d / T$ of them?

# %% [markdown] nbgrader={"grade": true, "grade_id": "whitening_is_procrustes", "locked": false, "points": 6, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# 1. With $X = P D Q^\top$, where $P^\top P = I$ and $Q$ is square and orthogonal, $X^\top X = Q D P^\top P D Q^\top =
# Q D^2 Q^\top$. That is its eigendecomposition, so $(X^\top X)^{-1/2} = Q D^{-1} Q^\top$, and $X (X^\top X)^{-1/2} =
# P D Q^\top Q D^{-1} Q^\top = P Q^\top$. (2 points.)
#
# 2. $\|Y - X\|_F^2 = \|Y\|_F^2 + \|X\|_F^2 - 2 \operatorname{tr}(Y^\top X)$, and $\|Y\|_F^2 = \operatorname{tr}(Y^\top
# Y) = m$ is the same for all $Y$, so the trace is to be made as large as possible. $\operatorname{tr}(Y^\top P D
# Q^\top) = \operatorname{tr}(Q^\top Y^\top P D) = \sum_j z_{jj} d_j$ with $Z = (Y Q)^\top P$. The columns of $Y Q$ and
# of $P$ have length one, so $z_{jj} \le 1$ by Cauchy and Schwarz, and the sum is at most $\sum_j d_j$. $Y = P Q^\top$
# gives $Z = I$ and reaches it. (3 points: one for the trace, one for the bound, one for reaching it.)
#
# 3. For $D^{-1}$: all singular values are above zero just if the columns are independent. (Without that the trace is
# still largest at $P Q^\top$, but other matrices reach it too.) More than $d / T$ vectors for each of $T$ tasks are
# more than $d$ vectors in $d$ dimensions, which are dependent, whatever they are. (1 point.)
# ### END SOLUTION

# %% [markdown]
# ## The proposition on a computer
#
# A proof needs no experiment, but a program may need one. First the vectors of the layer: the largest difference
# between any two entries of the two matrices, in both precisions.

# %%
left, _, right = kept(layer)
for kind in (torch.float32, torch.float64):
    for side, x in {"left": left.to(kind), "right": right.to(kind)}.items():
        p, d, qh = torch.linalg.svd(x, full_matrices=False)
        apart = float((whiten(x) - p @ qh).abs().max())
        print(f"{kind}, {side} vectors: {apart:.0e} apart; least singular value of X {float(d[-1]):.0e}")

# %% [markdown]
# Now columns that are closer and closer to dependent: the least singular value of $X$ falls from left to right. Both
# curves show how far the columns of the result are from orthonormal, in float32, whose rounding error is about
# $10^{-7}$. $X^\top X$ has the *squares* of the singular values; what does that do to the digits of the small ones?
# Where points are missing, the computer found an eigenvalue below zero, which has no root.


# %%
def flaw(y):
    """Return the largest entry of yᵀy - I in absolute value."""
    return float((y.mT @ y - torch.eye(y.shape[1])).abs().max())


random = torch.Generator().manual_seed(0)
p, _, qh = torch.linalg.svd(torch.randn(64, 8, generator=random), full_matrices=False)
least = torch.logspace(0, -6, 25)
made = [(p * torch.tensor([1.0] * 7 + [float(d)])) @ qh for d in least]
polars = [a @ bh for a, _, bh in (torch.linalg.svd(x, full_matrices=False) for x in made)]
fig, axis = plt.subplots()
axis.plot(least, [flaw(whiten(x)) for x in made], color=pictures.COLOURS[1], marker="s", label="whitening")
axis.plot(least, [flaw(y) for y in polars], color=pictures.COLOURS[0], marker="o", label="Procrustes by the SVD")
axis.set(xscale="log", yscale="log", xlabel="least singular value of X", ylabel="off orthonormal by")
axis.invert_xaxis()
axis.legend()
plt.show()

# %% [markdown]
# ## Exercise 5: the price of orthogonality (2 points)
#
# How far do vectors have to move to become orthonormal? The *Procrustes error* of $X$ is
#
# $$\|X_\perp - X\|_F, \qquad X_\perp = P Q^\top .$$
#
# Work it out on paper first: it needs nothing but the singular values of $X$. Then it also makes sense for an $X$ that
# is wider than tall, whose columns cannot be independent.


# %% nbgrader={"grade": false, "grade_id": "procrustes_error", "locked": false, "schema_version": 3, "solution": true, "task": false}
def procrustes_error(x):
    """Return the Frobenius distance between x and P Qᵀ of its SVD."""
    ### BEGIN SOLUTION
    # PQᵀ - X = P (I - D) Qᵀ, and neither P nor Q changes lengths.
    return float((torch.linalg.svdvals(x) - 1).square().sum().sqrt())
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_procrustes_error", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
a3.check_procrustes_error(procrustes_error)
### BEGIN HIDDEN TESTS
a3.check_procrustes_error(procrustes_error, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# Theorem 6.1 in a picture: the error of the layer's right vectors when each task keeps its first $k$. All $n$ of them
# have the error $\sqrt{n}\,(\sqrt{T} - 1)$ whatever they are (dotted); few of them have much less. Beside them stand
# random vectors, which have nothing to do with each other. On which side of these do the tasks lie at the share that
# TSV-Merge keeps (dashed), and what does that say about tasks that are called unrelated?

# %%
_, _, all_vs = factors(layer)
n = all_vs[0].shape[1]
counts = sorted({max(1, round(n * fraction)) for fraction in (0.01, 0.03, 0.06, 0.125, 0.25, 0.5, 0.75, 1)})
drawn = [torch.linalg.qr(torch.randn(all_vs[0].shape, generator=random)).Q for _ in tasks]
fig, axis = plt.subplots()
for label, blocks, colour in (("tasks", all_vs, pictures.COLOURS[0]), ("random", drawn, pictures.COLOURS[1])):
    errors = [procrustes_error(side_by_side([block[:, :k] for block in blocks])) for k in counts]
    axis.plot(counts, errors, color=colour, marker="o", label=label)
axis.axhline(math.sqrt(n) * (math.sqrt(len(tasks)) - 1), color="black", linestyle=":")
axis.axvline(share(layer), color="black", linestyle="--")
axis.set(xlabel="vectors kept of each task", ylabel="Procrustes error")
axis.legend()
plt.show()

# %% [markdown]
# ## Try
#
# - Change `layer` to the name of another matrix of the list `matrices`. Are the pairs of tasks that disturb each other
#   most the same in all layers? Look at which tasks these are.
# - STI is zero when either $U$ or $V$ is orthonormal across tasks. What does orthogonalising one side alone save, and
#   what would it leave undone? Assignment 4 can tell you what it does to accuracy.
