# %% [markdown]
# # Teaching with the assignments: a guide for instructors
#
# Five assignments take a student from two arrows in the plane to TSV-Merge written from scratch. This page tells how to
# adopt them, hand them out, mark what comes back, and keep answers from travelling between classes. `make course` runs
# it: every number below comes from the run whose page you are reading, on an example class of five students who do not
# exist.
#
# **Solutions are public.** They lie in this repository, in the same files as the exercises. What changes from class to
# class is the seed of the hidden tests, so copied *answers* to written questions and copied *functions* still work, but
# numbers that another class computed do not. Let points for code be a small part of a grade, ask students to explain
# their functions, and lean on the written questions and on assignment 4, whose last question has no solution.

# %% tags=["parameters"]
folder = "build/course/example"  # an example class, which is made anew

# %%
import shutil
from pathlib import Path

import pandas as pd

from compendium.course import assignments, confinement, grading, submissions
from compendium.course.classroom import Classroom

pd.set_option("display.max_colwidth", None)

# %% [markdown]
# ## What there is
#
# About two hours of student time each, with learning objectives and prerequisites in the first cell. Each function is
# marked by tests, written answers by you; their model answers, with the points for each part, are in the solutions.
# Assignment 0 needs no experts. From assignment 1 on, pictures and questions use the eight experts that `make tour`
# trains in a few minutes; tests never do, so nobody loses points for want of them.

# %%
overview = assignments.overview()
overview.pivot_table("points", "assignment", "marked by", "sum", margins=True, margins_name="total").astype(int)

# %%
overview.set_index(["assignment", "exercise"])

# %% [markdown]
# ## Adopting the course
#
# | You want | Do |
# |---|---|
# | the whole module | five weeks, one assignment a week; the paper's Sections 3 and 4 beside assignments 2 to 4 |
# | one session | assignment 0: ninety minutes, nothing to train, nothing to download |
# | a lab in a linear algebra course | assignments 0 and 2: SVD, Procrustes, Eckart-Young |
# | a project | assignment 4 and its open question; `make paper` shows what a full evaluation looks like |
#
# To change an assignment, edit `notebooks/course/aN_*.py` in JupyterLab (they open as notebooks) and run `make course`
# again. nbgrader refuses to add or remove marked cells once there are submissions. A check of a function takes that
# function and compares it with an answer of its own: `notebooks/compendium/course/checks`.
#
# ## Setting up
#
# ```
# make course CLASS=~/autumn COURSE_SEED=48151
# ```
#
# writes to `~/autumn`, which is a course of nbgrader with its grade book `gradebook.db`, a file of SQLite:
#
# | Folder | Holds | For |
# |---|---|---|
# | `release` | one notebook for each assignment, without solutions and hidden tests | students |
# | `source` | the same with both | you |
# | `solution` | executed solutions, without hidden tests | you, and students after the deadline if you like |
# | `submitted/STUDENT/ASSIGNMENT` | where you put what students hand in | you |
# | `autograded`, `feedback`, `grades.csv` | what marking makes | you; feedback goes to students |
# | `guide.html`, `example` | this page, and the class that it makes up | you |
#
# Without `CLASS` that is `build/course`, which `make clean` deletes. Choose any seed from 1 on, another one for each
# class, and keep it to yourself; run again without it, the command keeps that of the class. Students need this
# repository (`make env`, then `make lab`), and put the notebooks that you give them into its folder `notebooks`; they
# need nothing of nbgrader. Where students work on a JupyterHub with nbgrader's exchange, `nbgrader release_assignment`
# and `nbgrader collect` work in the folder; set `Exchange.root` in its `nbgrader_config.py` to that of your hub.
#
# Here is the example class, with the first assignment and a seed of its own.

# %%
name = "a0_two_tasks"
shutil.rmtree(folder, ignore_errors=True)
classroom = Classroom(Path(folder))
classroom.generate(name, seed=48151)
release = classroom.release(name)

# %% [markdown]
# ## What students hand in
#
# The notebook, under its own name. Five of them: all right; one usual mistake; a function that never ends; a test that
# was deleted beside one that was made easier; and a letter instead of a notebook.

# %%
cells = assignments.marked(classroom.source(name))
right = {grade_id: cell.source for grade_id, cell in cells.items() if assignments.known(cell)["solution"]}
answers = {
    "ada": right,
    "bert": right | {"procrustes": "def procrustes(x):\n    q, r = torch.linalg.qr(x)\n    return q"},
    "cleo": right | {"task_matrix": "def task_matrix(s, u, v):\n    while True:\n        pass"},
    "dora": right | {"angle": "def angle(a, b):\n    return 45.0", "check_angle": "print('all right')"},
}
handed_in = {student: assignments.answered(release, given) for student, given in answers.items()}
handed_in["dora"].cells.remove(assignments.marked(handed_in["dora"])["check_sti_of_two"])

letter = classroom.file("submitted", name, "emil")
letter.parent.mkdir(parents=True)
letter.write_text("Dear instructor, my cat ate my notebook.", encoding="utf-8")
for student, notebook in handed_in.items():
    submissions.hand_in(classroom.folder, student, name, notebook)

# %% [markdown]
# ## Marking
#
# ```
# make grade CLASS=~/autumn ASSIGNMENT=a0_two_tasks
# ```
#
# marks all submissions of an assignment by nbgrader, writes feedback, and exports all marks. Do not use `nbgrader
# autograde` or the button for it in nbgrader's formgrader instead: they run what students wrote as you, with your files
# and your network. `make grade` runs each submission in a process of its own,
#
# - without network, and where Linux allows it with the class's folder and the solutions out of sight and with all
#   processes gone at the end (what a machine does not allow is told),
# - with 2 GB of memory beyond what Python takes with torch,
# - with 30 seconds for each cell and 5 minutes in all; after a cell that did not end, a new kernel goes on behind it,
# - on CPU cores of its own where there are two, so that nobody's busy loop slows down somebody else.
#
# `python -m compendium grade --help` shows how to change these limits. This is a fence for mistakes and for the
# curious, not a prison: use an account or a container of its own for students whom you do not trust.

# %%
print(confinement.walls().missing or "This machine allows all of it.")
limits = grading.Limits(cell_seconds=20)
marked = grading.grade(classroom, name, limits=limits)
heading, *rows = grading.rows(classroom, name, marked)
pd.DataFrame(rows, columns=heading).set_index(heading[0])

# %% [markdown]
# Ada has all points that tests can give. Bert, Cleo and Dora lose those of one exercise, which the table names; what
# stands in deleted or changed tests does not matter, since they are put back. Emil has none, and nobody else is worse
# off for it. Marking can be interrupted at any moment; the same command then marks anew.
#
# Written answers you read in nbgrader's *Formgrader*, a menu entry of a JupyterLab that runs in the folder of the class:
#
# ```
# cd ~/autumn && /path/of/this/repository/.venv/bin/jupyter lab
# ```
#
# Then run `make grade` again for feedback with all points: what you gave stays.

# %%
marks = classroom.marks(name).pivot_table("points", "student", "exercise", sort=False)
assert marks.loc["ada", ["angle", "task_matrix", "procrustes", "sti_of_two"]].sum() == 16
marks

# %% [markdown]
# ## Feedback
#
# Each student gets a page with points beside each exercise and the sentences of tests that failed, such as this one.
# Hidden tests are cut out of it, so that it does not tell the seed. `example/feedback` beside this page has all five.

# %%
feedback = classroom.file("feedback", name, "bert", "html")
autograded = submissions.read(classroom.file("autograded", name, "bert"))
print(feedback.relative_to(classroom.folder))
print(assignments.marked(autograded)["check_procrustes"].outputs[0].evalue)

# %% [markdown]
# `grades.csv` is what `nbgrader export` writes; points by hand count as zero until you give them.

# %%
pd.read_csv(classroom.export())[["assignment", "student_id", "raw_score", "max_score"]]

# %% [markdown]
# ## The leaderboard
#
# The last exercise of assignment 4 asks for a merging method of one's own. A student who gives it a `name` finds a file
# `leaderboard/NAME.safetensors` beside the notebook, and hands it in as well: put it into `leaderboard` beside that
# student's notebook in `submitted`. Once, after the deadline, in the folder of this repository:
#
# ```
# .venv/bin/python -m compendium leaderboard ~/autumn/submitted/*/a4_tsv_merge/leaderboard/*.safetensors \
#     --seed 7341 --seed 9102 --methods 3
# ```
#
# - Students have experts of the seeds 0 to 2 at most, and those are refused. Take two or three other ones that nobody
#   guesses, others for each class: the eight experts of each are trained first, about a minute for each seed.
# - An entry is refused, in a sentence that names the file, when its model has another digest or another accuracy than it
#   states, or is not what its function makes of the students' experts. Functions run as submissions do while marking:
#   apart, without network, within limits. A bad entry costs nobody else a place.
# - The table ranks what the functions make of the unseen experts, on test images, beside task arithmetic and TSV-M. Each
#   accuracy has a standard error, and so has its distance to the first place: a distance of less than two of its errors
#   is none.
#
# **A place gives no points**, and students should hear so beforehand: who is first depends on luck, and on how much time
# somebody had. Read the functions of the first places before you praise them (`--methods 3` shows three): is the idea
# new, is it the library's or a paper's, does it compute something that depends on these experts alone? Let their
# authors explain them to the class.
#
# ## Timing
#
# A submission takes about ten seconds of one core, most of them to start Python and load torch; only tests and what
# students wrote is run, not the cells that look at experts. One that never ends takes 30 seconds for each exercise that
# it spoils, and 5 minutes at most. Two run side by side: 30 of assignment 0, in two of which no function ever ends, took
# 6.6 minutes on two cores that were busy with other work. `make course` trains eight experts the first time, and runs
# all solutions, which takes a few minutes.
#
# ## Common errors
#
# | You see | Because | Do |
# |---|---|---|
# | `NameError` in a test of a student's | the cell with the function was deleted, or needs one that a cell of pictures computes | functions must stand alone: only imports, functions and constants of cells without points exist while marking |
# | "it calls tsvlib…; write this step yourself" | the function hands its work to this repository | as it says; it costs the points of the exercise |
# | "the cell took too long" on an honest submission | another program uses all cores | mark again with `--cell-seconds 120` |
# | "Python itself ended in this cell" | `exit()`, a crash, or memory | ask the student to restart the kernel and run all cells |
# | "nothing could be marked" | not a notebook, another name, a link, or more than 10 MB | ask for the `.ipynb` file |
# | "Cannot add or remove cells" | the assignment changed after students handed in | make a new class in another folder |
# | one mistake, two exercises lost | the second function calls the first, as `merge` calls `tsv_m` | give points back in the Formgrader, or let the student correct the first one and mark again |
# | points changed after marking again | tests have another seed, or the checkout is another one | keep the folder and the checkout of a class |
#
# ## Answers that do not carry over
#
# Every test draws its inputs from a seed. Students see those of seed 0; hidden tests use `COURSE_SEED` of the class, in
# every assignment. A function that returns remembered numbers passes the first and fails the second. Sources, and
# nothing else, hold the seed:

# %%
print("the class:", assignments.seed_of(classroom.source(name)))
print("everybody:", assignments.seed_of(assignments.source(name)))
assert "48151" not in classroom.file("release", name).read_text(encoding="utf-8")
assert "48151" not in feedback.read_text(encoding="utf-8")
