# %% [markdown]
# # Assignment 0: two tasks in the plane
#
# One layer with two inputs and two outputs, and two tasks that each want one thing of it: small enough to draw. You
# will see how two tasks get in each other's way when they are added up, compute by how much, and turn them until they
# no longer do. Everything that follows in this course is this picture in more dimensions.
#
# | | |
# |---|---|
# | You learn | what a task matrix of rank one does; why singular vectors have an angle but no sign; the closest orthonormal matrix (Procrustes) and how it differs from Gram-Schmidt; singular task interference (STI) as a formula that you derived yourself |
# | You need | vectors, matrix products and the singular value decomposition (SVD); Python with a little torch; no trained model |
# | Points | 20: angle 3, task matrix 3, Procrustes 5, interference 5, written answer 4 |
# | Time | about 90 minutes; all cells together run in seconds |
# | Paper item | Equation 6, Proposition 4.1, Appendix A |
#
# **How it works.** You write functions where a cell says `YOUR CODE HERE`: put your lines in the place of `raise
# NotImplementedError()`. The cell after it tries your function on a few inputs. If it says nothing, all is well; if
# something is off, a sentence tells what was tried and, for the usual mistakes, which one it looks like. Grading does
# the same with other inputs. Cells without an exercise use what you wrote, so go from top to bottom; you may change
# them as you like. Written answers stand in the place of `YOUR ANSWER HERE`, and are read by people. Write every step
# yourself in plain torch: what `tsvlib` has to offer is noticed. Before you hand in, restart the kernel and run all
# cells from the top.

# %% nbgrader={"grade": false, "grade_id": "imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math

import matplotlib.pyplot as plt
import torch

from compendium.course import pictures
from compendium.course.checks import a0
from compendium.paper import plotting

plotting.use_style()

# %% nbgrader={"grade": true, "grade_id": "seed", "locked": true, "points": 0, "schema_version": 3, "solution": false, "task": false}
COURSE_SEED = 0  # decides the inputs on which functions are tried
### BEGIN HIDDEN TESTS
COURSE_SEED = 20412
### END HIDDEN TESTS

# %% [markdown]
# ## Two tasks, two pairs of arrows
#
# A layer maps an input $x$ to $Wx$. Fine-tuning on task $i$ changes $W$ by a *task matrix* $\Delta_i$. The simplest one
# has rank one: whatever points along $v_i$ in the input is sent to $u_i$ in the output, $s_i$ times as strong.
#
# $$\Delta_i = s_i\, u_i v_i^\top, \qquad \|u_i\| = \|v_i\| = 1,\; s_i > 0$$
#
# The next cell makes two such tasks. Each has an arrow $v_i$ for what it reads and an arrow $u_i$ for what it writes.


# %%
def direction(degrees):
    """Return the vector of length one in the plane at an angle to the horizontal axis."""
    return torch.tensor([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])


u1, u2 = direction(20), direction(65)
v1, v2 = direction(100), direction(40)
s1, s2 = 1.5, 1.0

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(5, 2.5))
pictures.arrows(left, {"$v_1$": v1, "$v_2$": v2})
pictures.arrows(right, {"$u_1$": u1, "$u_2$": u2})
left.set_title("what the tasks read")
right.set_title("what the tasks write")
plt.show()

# %% [markdown]
# ## Exercise 1: the angle between two directions (3 points)
#
# How much two directions have in common is the cosine between them,
#
# $$\cos\theta = \frac{a^\top b}{\|a\|\,\|b\|} .$$
#
# A singular vector has no sign: $u$ and $-u$, together with $v$ and $-v$, make the same $\Delta$. So the angle is one
# between *lines*, and lies between 0 and 90 degrees. Return it in degrees, for vectors of any length and in any number
# of dimensions. Rounding can make the cosine of parallel vectors a little larger than one; mind what `math.acos` says
# to that.


# %% nbgrader={"grade": false, "grade_id": "angle", "locked": false, "schema_version": 3, "solution": true, "task": false}
def angle(a, b):
    """Return the angle in degrees, from 0 to 90, between the lines along two vectors."""
    ### BEGIN SOLUTION
    cosine = float(a @ b / (a.norm() * b.norm()))
    return math.degrees(math.acos(min(1.0, abs(cosine))))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_angle", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
a0.check_angle(angle)
### BEGIN HIDDEN TESTS
a0.check_angle(angle, seed=COURSE_SEED)
### END HIDDEN TESTS

# %%
print(f"between what they read: {angle(v1, v2):.0f} degrees; between what they write: {angle(u1, u2):.0f} degrees")

# %% [markdown]
# ## Exercise 2: the task matrix (3 points)
#
# Write $\Delta = s\,u v^\top$, a column times a row. The sizes of $u$ and $v$ may differ: layers are rarely square.


# %% nbgrader={"grade": false, "grade_id": "task_matrix", "locked": false, "schema_version": 3, "solution": true, "task": false}
def task_matrix(s, u, v):
    """Return s u vᵀ, with as many rows as u has entries and as many columns as v."""
    ### BEGIN SOLUTION
    return s * torch.outer(u, v)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_task_matrix", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
a0.check_task_matrix(task_matrix)
### BEGIN HIDDEN TESTS
a0.check_task_matrix(task_matrix, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# ## What goes wrong when tasks are added up
#
# Task 1 alone answers its own input $v_1$ with $\Delta_1 v_1 = s_1 u_1$. In the sum of both tasks it gets
#
# $$(\Delta_1 + \Delta_2)\, v_1 = s_1 u_1 + s_2\, (v_2^\top v_1)\, u_2 .$$
#
# The second term is task 2 talking in a conversation that is none of its business. Dashed arrows show what each task
# wants as the answer to its own input, solid ones what the merged change $\Delta = \Delta_1 + \Delta_2$ says.

# %%
merged = task_matrix(s1, u1, v1) + task_matrix(s2, u2, v2)
fig, axis = plt.subplots(figsize=(2.8, 2.8))
pictures.arrows(axis, {"$s_1 u_1$": s1 * u1, "$s_2 u_2$": s2 * u2}, faint=True)
pictures.arrows(axis, {r"$\Delta v_1$": merged @ v1, r"$\Delta v_2$": merged @ v2})
plt.show()

# %% [markdown]
# ## Exercise 3: the closest orthonormal vectors (5 points)
#
# If $v_1$ and $v_2$ stood at a right angle, the second term would vanish. So let us move the vectors until they do, and
# as little as possible. With the vectors of all tasks as columns of $X$, this is the *orthogonal Procrustes problem*
#
# $$X_\perp = \arg\min_{Y^\top Y = I} \|Y - X\|_F, \qquad X = P D Q^\top \;\Rightarrow\; X_\perp = P Q^\top .$$
#
# The SVD takes $X$ apart, and $D$ is left out when it is put together again. `torch.linalg.svd` with
# `full_matrices=False` returns $P$, the diagonal of $D$, and $Q^\top$: the last one *is* transposed already.


# %% nbgrader={"grade": false, "grade_id": "procrustes", "locked": false, "schema_version": 3, "solution": true, "task": false}
def procrustes(x):
    """Return the matrix with orthonormal columns that is closest to x, which has at least as many rows as columns."""
    ### BEGIN SOLUTION
    p, _, qh = torch.linalg.svd(x, full_matrices=False)
    return p @ qh
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_procrustes", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
a0.check_procrustes(procrustes)
### BEGIN HIDDEN TESTS
a0.check_procrustes(procrustes, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# Beside it stands Gram-Schmidt, which you may know from linear algebra: keep the first vector, and take out of the
# second what it shares with the first. Both pictures end with a right angle. Look at how far each arrow had to move.

# %%
x = torch.stack([u1, u2], dim=1)
q, r = torch.linalg.qr(x)
fig, axes = plt.subplots(1, 2, figsize=(5, 2.5))
for axis, title, y in zip(axes, ("Procrustes", "Gram-Schmidt"), (procrustes(x), q * r.diagonal().sign()), strict=True):
    pictures.arrows(axis, {"$u_1$": u1, "$u_2$": u2}, faint=True)
    pictures.arrows(axis, {r"$u_1^\perp$": y[:, 0], r"$u_2^\perp$": y[:, 1]})
    axis.set_title(f"{title}: moved by {float((y - x).norm()):.2f}")
plt.show()

# %% [markdown]
# ## Exercise 4: interference in closed form (5 points)
#
# *Singular task interference* (Equation 6 of the paper) puts one number on how far tasks are from leaving each other
# alone. With the vectors of all tasks side by side in $U$ and $V$, and their singular values on the diagonal of
# $\Sigma$,
#
# $$\mathrm{STI} = \bigl\|(U^\top U - I)\,\Sigma\,(V^\top V - I)\bigr\|_1 .$$
#
# The paper leaves open which 1-norm it means; here it is the sum of the absolute values of all entries. For two tasks
# of rank one, with $c = u_1^\top u_2$ and $d = v_1^\top v_2$,
#
# $$U^\top U - I = \begin{pmatrix} 0 & c \\ c & 0 \end{pmatrix}, \qquad
# V^\top V - I = \begin{pmatrix} 0 & d \\ d & 0 \end{pmatrix}, \qquad
# \Sigma = \begin{pmatrix} s_1 & 0 \\ 0 & s_2 \end{pmatrix}.$$
#
# Multiply the three matrices on paper, and return the sum of absolute entries as a formula in $c$, $d$, $s_1$ and
# $s_2$. Cosines may be negative; singular values are not.


# %% nbgrader={"grade": false, "grade_id": "sti_of_two", "locked": false, "schema_version": 3, "solution": true, "task": false}
def sti_of_two(c, d, s1, s2):
    """Return the STI of two tasks of rank one, from the cosines between their vectors and their singular values."""
    ### BEGIN SOLUTION
    # The product is diagonal: c d s2 for the first task, c d s1 for the second one.
    return abs(c * d) * (s1 + s2)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "check_sti_of_two", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
a0.check_sti_of_two(sti_of_two)
### BEGIN HIDDEN TESTS
a0.check_sti_of_two(sti_of_two, seed=COURSE_SEED)
### END HIDDEN TESTS

# %% [markdown]
# Now everything together: turn the second task's writing direction away from the first's, from parallel to orthogonal,
# and do the same with what the tasks read. Each curve keeps one angle between the inputs. One right angle, on either
# side, is enough for no interference at all.

# %%
fig, axis = plt.subplots()
degrees = range(91)
for between_inputs, colour in zip((0, 30, 60, 90), pictures.COLOURS, strict=True):
    d = math.cos(math.radians(between_inputs))
    curve = [sti_of_two(math.cos(math.radians(each)), d, s1, s2) for each in degrees]
    axis.plot(degrees, curve, color=colour, label=f"inputs {between_inputs} degrees apart")
axis.set(xlabel="angle between outputs (degrees)", ylabel="STI")
axis.legend()
plt.show()

# %% [markdown]
# After Procrustes on both sides, each task hears itself alone: what task 1 gets for its (moved) input has exactly its
# strength $s_1$, along its (moved) output. This is TSV-Merge for two tasks of rank one. The lines below must all print
# a number that is zero up to rounding.

# %%
u, v = procrustes(torch.stack([u1, u2], dim=1)), procrustes(torch.stack([v1, v2], dim=1))
free = task_matrix(s1, u[:, 0], v[:, 0]) + task_matrix(s2, u[:, 1], v[:, 1])
for number, strength in enumerate((s1, s2)):
    print(f"task {number + 1}: off by {float((free @ v[:, number] - strength * u[:, number]).norm()):.0e}")
print(f"interference: {sti_of_two(float(u[:, 0] @ u[:, 1]), float(v[:, 0] @ v[:, 1]), s1, s2):.0e}")

# %% [markdown]
# ## Question: why not Gram-Schmidt? (4 points)
#
# Gram-Schmidt makes vectors orthonormal too, and needs no SVD. In five to eight sentences: what would become of the
# merged model if the tasks were given in another order, with Gram-Schmidt and with Procrustes? Which tasks pay for the
# right angle in each case? What do both give when the two vectors are parallel, and what does that mean for two tasks
# that want the same thing?

# %% [markdown] nbgrader={"grade": true, "grade_id": "why_not_gram_schmidt", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# ### BEGIN SOLUTION
# Gram-Schmidt keeps the first vector as it is and moves each later one by all that it shares with those before it. So
# the merged model depends on the order in which the tasks are listed, which means nothing: the first task pays nothing,
# the last one most. Procrustes moves all vectors together and by the least total squared distance; in the plane each of
# two unit vectors turns by half of what is missing to 90 degrees, and another order of the columns only reorders those
# of the answer. For parallel vectors, X has rank one: Gram-Schmidt has nothing left to normalise for the second vector,
# and in PQᵀ the second column of P is arbitrary, so neither answer is unique. Two tasks that want the same direction
# cannot both keep it and be orthogonal: one direction that both share is torn into two, of which one is made up. (One
# point each for order, for who pays, for the parallel case, and for what it means for the tasks.)
# ### END SOLUTION

# %% [markdown]
# ## Try
#
# - Give both tasks the same output direction, `u2 = u1`. What does the picture of interference show, and what does
#   Procrustes make of it?
# - Three vectors in the plane cannot be orthogonal. Which shape has `torch.linalg.svd` of a 2 x 3 matrix, and what is
#   orthonormal about $P Q^\top$ then? Assignment 4 needs this.
