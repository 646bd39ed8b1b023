# %% [markdown]
# # Assignment 1: task vectors and task arithmetic
#
# Eight experts were fine-tuned from one base model, each on a task of its own. You will write what each of them
# learned as a vector, look at how these vectors lie to each other, add them up, and find out how much of eight experts
# one model can be.
#
# | | |
# |---|---|
# | You learn | what a task vector is; how unrelated fine-tunings are; merging by addition, and what alpha does; how merged models are measured |
# | You need | assignment 0; Python dictionaries; the experts, which `make tour` trains in a few minutes |
# | Points | 20: task vector 3, cosine 3, task arithmetic 3, applying an update 3, normalised accuracy 3, written answer 5 |
# | Time | about two hours; all cells together run in about a minute |
# | Paper item | Equation 1, Table 2 |
#
# You write functions where a cell says `YOUR CODE HERE`, in plain torch; the cell after it tries them on small made-up
# models, so none of the points needs the experts. Before you hand in, restart the kernel and run all cells from the
# top.

# %% tags=["parameters"]
profile = "mini"  # whose experts
images = 100  # on how many validation images of each task a model is measured

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import matplotlib.pyplot as plt
import torch

from compendium import profiles
from compendium.course import pictures
from compendium.course.checks import a1
from compendium.paper import plotting
from compendium.study import evaluation, runs

plotting.use_style()

# %% nbgrader={"grade": true, "grade_id": "seed", "locked": true, "points": 0, "schema_version": 3, "solution": false, "task": false}
COURSE_SEED = 0  # decides the inputs on which functions are tried
### BEGIN HIDDEN TESTS
COURSE_SEED = 31811
### END HIDDEN TESTS

# %% [markdown]
# ## The base and its experts
#
# A model is a dictionary: the name of each parameter, and its tensor. `base` is the model before fine-tuning, and
# `experts` holds one model per task, with the same names and shapes.

# %%
run = next(runs.of(profiles.load(profile).first_suite()))
base, tasks = run.evaluator.base, run.tasks(run.profile.tasks)
experts = [run.expert(task) for task in tasks]
print(f"{len(tasks)} experts: {', '.join(tasks)}")
print(f"{len(base)} tensors with {sum(tensor.numel() for tensor in base.values()):,} parameters each")

# %% [markdown]
# ## Exercise 1: the task vector (3 points)
#
# What fine-tuning on task $i$ changed is the *task vector*
#
# $$\tau_i = \theta_i - \theta_{\mathrm{base}} ,$$
#
# for every parameter, matrix or not. Return it as a dictionary with the same names, and leave both models as they are.


# %% nbgrader={"grade": false, "grade_id": "task_vector", "locked": false, "schema_version": 3, "solution": true, "task": false}
def task_vector(base, expert):
    """Return expert minus base, tensor by tensor, as a new dictionary."""
    ### BEGIN SOLUTION
    return {name: expert[name] - base[name] for name in base}
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_task_vector", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
a1.check_task_vector(task_vector)
### BEGIN HIDDEN TESTS
a1.check_task_vector(task_vector, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# The cells below use your functions on the real experts. How far did each expert move, and how long was the way
# compared with the base itself?


# %%
def vectors():
    """Return the task vector of every expert."""
    return [task_vector(base, expert) for expert in experts]


def length(model):
    """Return the Euclidean length of all parameters of a model as one vector."""
    return float(sum(tensor.double().square().sum() for tensor in model.values()) ** 0.5)


for task, vector in zip(tasks, vectors(), strict=True):
    print(f"{task:12} {length(vector):6.2f}, {100 * length(vector) / length(base):.1f} % of the base")

# %% [markdown]
# ## Exercise 2: the cosine between task vectors (3 points)
#
# Take each task vector as one long vector with all parameters in it. How much do two of them have in common?
#
# $$\cos(\tau_i, \tau_j) = \frac{\tau_i^\top \tau_j}{\|\tau_i\|\,\|\tau_j\|}$$
#
# The sums run over *all* entries of all tensors; the mean of one cosine per tensor is another number. Keep the sign: a
# task vector has one.


# %% nbgrader={"grade": false, "grade_id": "cosine", "locked": false, "schema_version": 3, "solution": true, "task": false}
def cosine(one, two):
    """Return the cosine between two task vectors as a float."""
    ### BEGIN SOLUTION
    first, second = (torch.cat([vector[name].flatten() for name in one]) for vector in (one, two))
    return float(first @ second / (first.norm() * second.norm()))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_cosine", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
a1.check_cosine(cosine)
### BEGIN HIDDEN TESTS
a1.check_cosine(cosine, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# Two vectors drawn at random in so many dimensions are as good as orthogonal. Are the tasks?

# %%
fig, axis = plt.subplots(figsize=(3.6, 3.4))
found = vectors()
pictures.task_map(axis, [[cosine(one, two) for two in found] for one in found], tasks, "cosines of task vectors")
plt.show()

# %% [markdown]
# ## Exercise 3: task arithmetic (3 points)
#
# If tasks hardly overlap, their changes can be added up. *Task arithmetic* does it for all parameters:
#
# $$\tau = \sum_{i=1}^{T} \tau_i$$
#
# Note that this is a sum, not a mean: how much of it is used is decided later, by $\alpha$. The argument is a list of
# two or more task vectors.


# %% nbgrader={"grade": false, "grade_id": "task_arithmetic", "locked": false, "schema_version": 3, "solution": true, "task": false}
def task_arithmetic(vectors):
    """Return the sum of a list of task vectors, tensor by tensor."""
    ### BEGIN SOLUTION
    return {name: sum(vector[name] for vector in vectors) for name in vectors[0]}
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_task_arithmetic", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
a1.check_task_arithmetic(task_arithmetic)
### BEGIN HIDDEN TESTS
a1.check_task_arithmetic(task_arithmetic, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 4: applying an update (3 points)
#
# The merged model is the base plus a share of the update,
#
# $$\theta = \theta_{\mathrm{base}} + \alpha\, \tau .$$
#
# With $\alpha = 0$ it is the base. For one task and $\alpha = 1$ it is the expert. Do not change the base in place: it
# is needed again for the next $\alpha$.


# %% nbgrader={"grade": false, "grade_id": "apply", "locked": false, "schema_version": 3, "solution": true, "task": false}
def apply(base, update, alpha):
    """Return base + alpha * update, tensor by tensor, as a new dictionary."""
    ### BEGIN SOLUTION
    return {name: base[name] + alpha * update[name] for name in base}
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_apply", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
a1.check_apply(apply)
### BEGIN HIDDEN TESTS
a1.check_apply(apply, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# ## Exercise 5: normalised accuracy (3 points)
#
# Tasks differ in difficulty: 60 % may be excellent on one and poor on another. So each accuracy of the merged model is
# divided by that of the task's own expert, and then the mean over tasks is taken:
#
# $$\frac{1}{T}\sum_{i=1}^{T} \frac{\mathrm{acc}_i(\text{merged})}{\mathrm{acc}_i(\text{expert } i)}$$
#
# Both arguments are dictionaries from the name of a task to an accuracy between 0 and 1.


# %% nbgrader={"grade": false, "grade_id": "normalised_accuracy", "locked": false, "schema_version": 3, "solution": true, "task": false}
def normalised_accuracy(merged, individual):
    """Return the mean over tasks of the merged model's accuracy over that of the expert."""
    ### BEGIN SOLUTION
    return sum(merged[task] / individual[task] for task in merged) / len(merged)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_normalised_accuracy", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
a1.check_normalised_accuracy(normalised_accuracy)
### BEGIN HIDDEN TESTS
a1.check_normalised_accuracy(normalised_accuracy, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# ## How much of eight experts is one model?
#
# Everything together, on validation images: the merged model for several $\alpha$. The dotted line is the mean,
# $\alpha = 1/T$, which is called weight averaging.


# %%
def measured(alpha):
    """Return the normalised accuracy of task arithmetic with all experts."""
    state = apply(base, task_arithmetic(vectors()), alpha)
    individual = evaluation.shares(run.individual("validation", tasks, images))
    return normalised_accuracy(run.evaluator.accuracies(state, tasks, "validation", images), individual)


alphas = (0.0, 0.125, 0.2, 0.3, 0.4, 0.6, 1.0)
fig, axis = plt.subplots()
axis.plot(alphas, [100 * measured(alpha) for alpha in alphas], marker="o", color="#E69F00")
axis.axvline(1 / len(tasks), color="black", linestyle=":")
axis.set(xlabel="alpha", ylabel="normalised accuracy (%)", ylim=(0, 100))
plt.show()

# %% [markdown]
# ## Question: what alpha does (5 points)
#
# In six to ten sentences, with the numbers that you have seen:
#
# 1. Suppose that all task vectors had the same length and were orthogonal. How long would their sum be, and how long
#    their mean? Why does the merged model need an $\alpha$ well below one?
# 2. Why must $\alpha$ be chosen on validation images and not on those of the test? What would the reported accuracy
#    tell otherwise?
# 3. The accuracy falls when $\alpha$ is large. Name two different things that may be going wrong, and an experiment
#    that could tell which one it is.

# %% [markdown] nbgrader={"grade": true, "grade_id": "what_alpha_does", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# 1. Orthogonal vectors of length L have a sum of length L √T and a mean of length L / √T. For eight tasks the sum is
# almost three times as long as any of them, farther from the base than any expert went, and what the network does
# there was never trained. An alpha below one brings it back. (2 points: one for the lengths, one for the reason.)
#
# 2. An alpha chosen on the test images is the one to which their noise is kindest, so the accuracy is too high by an
# amount that nobody knows; it no longer tells what to expect of new images. (1 point.)
#
# 3. Length: the update may be too long, whatever its direction. Interference: the tasks' changes may disturb each
# other. Scaling a single expert's task vector to the same length, and measuring it on its own task, shows how much
# length alone costs; what is lost beyond that is interference. (2 points: one for the causes, one for an experiment
# that keeps one of them fixed.)
# ### END SOLUTION

# %% [markdown]
# ## Try
#
# - What does $-\tau_i$ do? Apply the negative task vector of one task with a small $\alpha$, and measure that task and
#   the others.
# - Leave one task out of the sum. Do the others gain, and is it the task with the largest cosines whose absence helps
#   most?
