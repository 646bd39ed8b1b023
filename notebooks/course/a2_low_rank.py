# %% [markdown]
# # Assignment 2: low rank, and TSV-C
#
# A fine-tuned layer differs from its base by a matrix that has as many entries as the layer. Does it also have as much
# to say? You will decompose task matrices, find that a few directions hold most of them, and compress eight experts to
# the room of one or two models. This is TSV-C, the paper's method of compression.
#
# | | |
# |---|---|
# | You learn | the best approximation of low rank (Eckart-Young); energy; how many components each task may keep; what TSV-C stores and what it costs in accuracy |
# | You need | assignment 1; the singular value decomposition; the experts, which `make tour` trains in a few minutes |
# | Points | 20: low rank 4, energy 3, kept rank 2, storage 2, TSV-C 4, written answer 5 |
# | Time | about two hours; all cells together run in about a minute |
# | Paper item | Figures 2 and 16, Section 3, Table 3 |
#
# You write functions where a cell says `YOUR CODE HERE`, in plain torch; the cell after it tries them on random
# matrices, so none of the points needs the experts. Before you hand in, restart the kernel and run all cells from the
# top.

# %% tags=["parameters"]
profile = "mini"  # whose experts
images = 100  # on how many validation images of each task a model is measured

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import matplotlib.pyplot as plt
import torch

from compendium import profiles
from compendium.course.checks import a2
from compendium.paper import plotting
from compendium.study import runs

plotting.use_style()

# %% nbgrader={"grade": true, "grade_id": "seed", "locked": true, "points": 0, "schema_version": 3, "solution": false, "task": false}
COURSE_SEED = 0  # decides the inputs on which functions are tried
### BEGIN HIDDEN TESTS
COURSE_SEED = 14142
### END HIDDEN TESTS

# %% [markdown]
# ## Task matrices
#
# The change of one two-dimensional tensor is a *task matrix* $\Delta_i$. `matrices` names them; `delta(i)` is the one
# of expert `i` in the layer that the pictures below look at.

# %%
run = next(runs.of(profiles.load(profile).first_suite()))
base, tasks = run.evaluator.base, run.tasks(run.profile.tasks)
experts, matrices, layer = [run.expert(task) for task in tasks], run.task_vector(tasks[0]).matrices, run.first_matrix()


def delta(number):
    """Return the task matrix of an expert in one layer."""
    return experts[number][layer] - base[layer]


print(f"{len(tasks)} experts with {len(matrices)} task matrices each; {layer} has the shape {tuple(base[layer].shape)}")

# %% [markdown]
# ## Exercise 1: the best approximation of rank k (4 points)
#
# The singular value decomposition writes a matrix as a sum of components, the strongest first:
#
# $$\Delta = U \Sigma V^\top = \sum_{j=1}^{r} \sigma_j\, u_j v_j^\top, \qquad \sigma_1 \ge \sigma_2 \ge \dots \ge 0$$
#
# The first $k$ of them are the closest matrix of rank $k$ that there is (Eckart and Young, 1936),
#
# $$\hat\Delta = U_{:,:k}\, \Sigma_{:k,:k}\, V_{:,:k}^\top .$$
#
# `torch.linalg.svd(delta, full_matrices=False)` returns $U$, the diagonal of $\Sigma$, and $V^\top$. In the last one,
# the singular vectors are rows.


# %% nbgrader={"grade": false, "grade_id": "low_rank", "locked": false, "schema_version": 3, "solution": true, "task": false}
def low_rank(delta, k):
    """Return the sum of the k leading singular components of a matrix."""
    ### BEGIN SOLUTION
    u, s, vh = torch.linalg.svd(delta, full_matrices=False)
    return (u[:, :k] * s[:k]) @ vh[:k]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_low_rank", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
a2.check_low_rank(low_rank)
### BEGIN HIDDEN TESTS
a2.check_low_rank(low_rank, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# A corner of a task matrix, with a few components and with all of them. From how many on can you not tell them apart?

# %%
shown = (1, 4, 16, min(base[layer].shape))
fig, axes = plt.subplots(1, len(shown), figsize=(6.75, 2.2))
reach = 3 * float(delta(0).std())
for axis, k in zip(axes, shown, strict=True):
    axis.imshow(low_rank(delta(0), k)[:96, :96].numpy(), cmap="RdBu", vmin=-reach, vmax=reach, interpolation="none")
    axis.set(title=f"k = {k}", xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Exercise 2: energy (3 points)
#
# How much of a matrix do $k$ components hold? Its squared Frobenius norm is the sum of its squared singular values, so
# it falls apart into one share per component. The *energy* of the first $k$ is
#
# $$\frac{\sum_{j \le k} \sigma_j^2}{\sum_{j} \sigma_j^2} = \frac{\|\hat\Delta\|_F^2}{\|\Delta\|_F^2} .$$


# %% nbgrader={"grade": false, "grade_id": "energy", "locked": false, "schema_version": 3, "solution": true, "task": false}
def energy(delta, k):
    """Return the share of the k largest in the sum of all squared singular values, as a float."""
    ### BEGIN SOLUTION
    squares = torch.linalg.svdvals(delta).square()
    return float(squares[:k].sum() / squares.sum())
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_energy", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
a2.check_energy(energy)
### BEGIN HIDDEN TESTS
a2.check_energy(energy, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# The layer's task matrices, one line each, beside a random matrix of the same shape. Fine-tuning does not change a
# layer at random.

# %%
fig, axis = plt.subplots()
ranks = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64)
for number, task in enumerate(tasks):
    axis.plot(ranks, [100 * energy(delta(number), k) for k in ranks], label=task)
noise = torch.randn(base[layer].shape, generator=torch.Generator().manual_seed(0))
axis.plot(ranks, [100 * energy(noise, k) for k in ranks], color="black", linestyle="--", label="random")
axis.set(xlabel="components kept", ylabel="energy (%)", ylim=(0, 100))
axis.legend(fontsize=5)
plt.show()

# %% [markdown]
# ## Exercise 3: a fair share for each task (2 points)
#
# A matrix with $r$ singular components has room for $r$ orthogonal directions. $T$ tasks that share it evenly get
#
# $$k = \max\bigl(1, \lfloor r / T \rfloor\bigr)$$
#
# each. Mind the rounding: `int(49 * (1 / 49))` is 0 in Python.


# %% nbgrader={"grade": false, "grade_id": "kept_rank", "locked": false, "schema_version": 3, "solution": true, "task": false}
def kept_rank(rank, n_tasks):
    """Return how many of a matrix's components each task keeps, a whole number and at least one."""
    ### BEGIN SOLUTION
    return max(1, rank // n_tasks)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_kept_rank", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
a2.check_kept_rank(kept_rank)
### BEGIN HIDDEN TESTS
a2.check_kept_rank(kept_rank, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 4: what is stored (2 points)
#
# In the place of a task matrix with $d$ rows and $m$ columns, TSV-C stores its factors: $k$ columns of $U$, $k$
# singular values and $k$ columns of $V$. How many numbers is that? (From this follows when it pays: as long as
# $k < dm / (d + m + 1)$.)


# %% nbgrader={"grade": false, "grade_id": "stored_numbers", "locked": false, "schema_version": 3, "solution": true, "task": false}
def stored_numbers(rows, columns, k):
    """Return how many numbers k singular components of a matrix take."""
    ### BEGIN SOLUTION
    return k * (rows + columns + 1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_stored_numbers", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
a2.check_stored_numbers(stored_numbers)
### BEGIN HIDDEN TESTS
a2.check_stored_numbers(stored_numbers, seed=COURSE_SEED)
### END HIDDEN TESTS


# %%
def stored(n_tasks):
    """Return what the matrices of all experts take together, in units of those of one model."""
    shapes = [tuple(base[name].shape) for name in matrices]
    factors = sum(stored_numbers(*shape, kept_rank(min(shape), n_tasks)) for shape in shapes)
    return n_tasks * factors / sum(rows * columns for rows, columns in shapes)


print("beside the base:", ", ".join(f"{stored(count):.2f} models for {count} tasks" for count in (2, 4, 8, 20)))

# %% [markdown]
# ## Exercise 5: a compressed expert (4 points)
#
# Now one weight matrix of an expert as TSV-C brings it back: the base, plus the leading components of what fine-tuning
# changed,
#
# $$\hat W_i = W_{\mathrm{base}} + \hat\Delta_i, \qquad \Delta_i = W_i - W_{\mathrm{base}}, \qquad
# k = \max\bigl(1, \lfloor \min(d, m) / T \rfloor\bigr) .$$
#
# Call your functions from above, or write it anew.


# %% nbgrader={"grade": false, "grade_id": "tsv_c", "locked": false, "schema_version": 3, "solution": true, "task": false}
def tsv_c(base, expert, n_tasks):
    """Return a weight matrix of the base plus the leading share of what the expert's differs by."""
    ### BEGIN SOLUTION
    return base + low_rank(expert - base, kept_rank(min(base.shape), n_tasks))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_tsv_c", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
a2.check_tsv_c(tsv_c)
### BEGIN HIDDEN TESTS
a2.check_tsv_c(tsv_c, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# What does it cost? The accuracy of each expert on its own task: as the base, compressed for eight tasks, and as it
# was trained.


# %%
def compressed(expert):
    """Return an expert whose matrices went through your function; what is no matrix is kept whole."""
    return {
        name: tsv_c(base[name], tensor, len(tasks)) if name in matrices else tensor for name, tensor in expert.items()
    }


for task, expert in zip(tasks, experts, strict=True):
    states = {"base": base, "compressed": compressed(expert), "expert": expert}
    shares = [
        f"{name} {100 * run.evaluator.accuracy(state, task, 'validation', images):3.0f} %"
        for name, state in states.items()
    ]
    print(f"{task:12} {', '.join(shares)}")

# %% [markdown]
# ## Question: why the difference, and when it pays (5 points)
#
# In six to ten sentences:
#
# 1. TSV-C decomposes $W_i - W_{\mathrm{base}}$, not $W_i$. What would the leading components of $W_i$ itself hold, and
#    what would become of the expert? Use your functions on one layer, and give the energies of both.
# 2. With $k = \min(d, m) / T$, the factors of all $T$ tasks take about the same room, whatever $T$ is. Derive it for a
#    square layer, and say what is paid for it as $T$ grows.
# 3. Which of your numbers on the accuracy of compressed experts would you not rely on, and why?

# %% [markdown] nbgrader={"grade": true, "grade_id": "why_the_difference", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# 1. The leading components of the weights are those of the base, which fine-tuning hardly turns: they hold what all
# experts share, and the small change that makes the expert is spread over what is cut off. So the base would be damaged
# and the task lost. The energy of the task matrix in few components is much higher than that of the weights. (2 points:
# one for the reason, one for numbers.)
#
# 2. T tasks store T k (d + d + 1) numbers with k = d / T, which is d (2 d + 1), about twice the layer. Each task pays
# with its number of components: its share is 1/T of them, and what it loses in energy grows with T. (2 points.)
#
# 3. Each accuracy rests on 100 images, so it has a standard error of up to 5 points; differences of a few points
# between expert and compressed expert are noise for a single task. (1 point; any reason that holds counts, such as
# validation images being used for both.)
# ### END SOLUTION

# %% [markdown]
# ## Try
#
# - Change `layer` to the name of another matrix of the list `matrices`. Are all layers of equally low rank?
# - Compress for 20 or 50 tasks, by another number in `compressed`. At how many does the first task lose more than the
#   noise of 100 images?
