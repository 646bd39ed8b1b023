# SPDX-License-Identifier: MIT
"""Whatever a student hands over, one sentence says what is wrong with it, and what was given stays as it was."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from torch import Tensor

import tsvlib
from compendium.course import answers, watching
from compendium.course.trying import Trial, Wrong, attempt
from tsvlib import linalg
from tsvlib.linalg import svd as renamed

X = torch.tensor([[2.0, 1.0], [0.0, 3.0]])
TRIAL = Trial("a matrix", (X,), 2 * X.double(), [("the number two is missing", X)], "think of zero")
COUNT = Trial("a matrix", (X,), 4)
MODEL = Trial("a model", ({"w": X, "b": X[0]},), {"w": X, "b": X[0]})


def said(function: object, trial: Trial = TRIAL, **options: Any) -> str:
    with pytest.raises(Wrong) as caught:
        attempt(function, "double", trial, **options)
    sentence = str(caught.value)
    assert sentence.startswith("`double`")
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: None, "returns nothing; end it with `return`"),
        (lambda x: [2 * x], "returns something of type list, where a tensor of shape 2 x 2 is wanted"),
        (lambda x: (2 * x).numpy(), "returns something of type ndarray"),
        (lambda x: 2 * x[0], "returns a tensor of shape 2, where a tensor of shape 2 x 2 is wanted"),
        (lambda x: x.sum(), "returns a tensor without dimensions"),
        (lambda x: x / 0, "NaN or Inf; think of zero"),
        (lambda x: x.clone(), "the number two is missing"),
        (lambda x: 2 * x + 0.5, "off by up to 0.5, and no usual mistake"),
        (lambda x: x.mul_(2), "changes its argument number 1 in place"),
        (lambda x: x.resize_(3, 2), "changes its argument number 1 in place"),
        (lambda x: x @ torch.ones(3), "stopped with RuntimeError: "),
        (lambda x: {}["w"], "stopped with KeyError: 'w'; think of zero"),
        (lambda x: math.sqrt(-1), "stopped with ValueError"),
        (lambda x, y: x, "stopped with TypeError: "),
        (lambda: X, "stopped with TypeError: "),
        (2 * X, "a tensor of shape 2 x 2; hand over the function itself"),
        (None, "something of type NoneType; hand over the function itself"),
    ],
)
def test_a_wrong_answer_has_its_sentence(function: object, words: str) -> None:
    assert words in said(function)


def test_a_notebook_shows_the_sentence_and_where_a_function_stopped() -> None:
    shell = InteractiveShell()
    shown: list[list[str]] = []
    shell._showtraceback = lambda kind, error, lines: shown.append(lines)
    shell.user_ns.update(attempt=attempt, TRIAL=TRIAL)
    shell.run_cell("def double(x):\n    y = x.clone()\n    return y")
    shell.run_cell("attempt(double, 'double', TRIAL)")
    shell.run_cell("def double(x):\n    y = x.clone()\n    return y @ y[0, :, None, None]")
    shell.run_cell("attempt(double, 'double', TRIAL)")
    shell.history_manager.end_session()
    assert shown[0] == ["Wrong: `double`, tried on a matrix: the number two is missing."]
    sentence, where = shown[1]
    assert sentence.startswith("Wrong: `double`, tried on a matrix: it stopped with RuntimeError: ")
    assert where == "It stopped at line 3: return y @ y[0, :, None, None]"


@pytest.mark.parametrize("answer", [4, np.int64(4), torch.tensor(4)])
def test_whole_numbers_of_any_kind_pass(answer: object) -> None:
    attempt(lambda x: answer, "double", COUNT)


@pytest.mark.parametrize("answer", [4.0, True, "4", torch.tensor(4.0), torch.tensor([4])])
def test_what_is_no_whole_number_does_not(answer: object) -> None:
    assert "where the whole number 4 is wanted" in said(lambda x: answer, COUNT)


@pytest.mark.parametrize("answer", [0.5, np.float32(0.5), torch.tensor(0.5), 0.5 + 1e-6])
def test_numbers_pass_up_to_rounding(answer: object) -> None:
    attempt(lambda x: answer, "double", Trial("a matrix", (X,), 0.5))


def test_either_precision_passes() -> None:
    for dtype in (torch.float32, torch.float64):
        attempt(lambda x, dtype=dtype: 2 * x.to(dtype), "double", TRIAL)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda model: {"w": model["w"]}, "lacks the entry `b`"),
        (lambda model: {**model, "c": X}, "has an entry `c`"),
        (lambda model: {**model, "b": X}, "entry `b`: it returns a tensor of shape 2 x 2"),
        (lambda model: {**model, "b": X[0] / 0}, "entry `b`: it returns NaN or Inf"),
        (lambda model: list(model.values()), "something of type list"),
        (lambda model: model.update(c=X) or {"w": X, "b": X[0]}, "in place"),
        (lambda model: model["b"].add_(1).sum() and {"w": X, "b": X[0]}, "in place"),
    ],
)
def test_models_are_looked_at_entry_by_entry(function: object, words: str) -> None:
    assert words in said(function, MODEL)


def test_what_is_not_written_passes_as_it_is() -> None:
    def unwritten(x: Tensor) -> Tensor:
        raise NotImplementedError("later")

    with pytest.raises(NotImplementedError, match="later"):
        attempt(unwritten, "double", TRIAL)


def test_the_given_arguments_survive() -> None:
    before = X.clone()
    said(lambda x: x.zero_())
    assert torch.equal(before, X)


def in_a_thread(x: Tensor) -> Tensor:
    found: list[Tensor] = []
    thread = threading.Thread(target=lambda: found.append(linalg.orthogonalise(x)))
    thread.start()
    thread.join()
    return found[0]


def imported_inside(x: Tensor) -> Tensor:
    from tsvlib import linalg as inner

    return inner.orthogonalise(x)


POLAR = Trial("a matrix", (X,), answers.polar(X))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (linalg.orthogonalise, "tsvlib.linalg.orthogonalise"),
        (lambda x: linalg.orthogonalise(x), "tsvlib.linalg.orthogonalise"),
        (lambda x: renamed(x).u @ renamed(x).vh, "tsvlib.linalg.svd"),
        (imported_inside, "tsvlib.linalg.orthogonalise"),
        (in_a_thread, "tsvlib.linalg.orthogonalise"),
        (lambda x: tsvlib.merged_update([{"w": x}, {"w": x}])["w"], "tsvlib.merging.merged_update"),
        (answers.polar, "compendium.course.answers.polar"),
    ],
)
def test_our_own_answers_are_noticed(function: Callable[[Tensor], Tensor], name: str) -> None:
    assert f"it calls {name}; write this step yourself" in said(function, POLAR)


def test_a_function_that_an_exercise_allows_may_be_called() -> None:
    # What it calls in its turn is not the student's doing.
    attempt(lambda x: renamed(x).u @ renamed(x).vh, "double", POLAR, allowed=["tsvlib.linalg.svd"])


def test_work_handed_to_a_thread_that_runs_already_is_noticed() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        sentence = said(lambda x: pool.submit(linalg.orthogonalise, x).result(), POLAR)
    assert "hands work over by concurrent.futures" in sentence or "it calls tsvlib" in sentence


def test_the_watching_cannot_be_switched_off() -> None:
    def unseen(x: Tensor) -> Tensor:
        sys = __import__("sys")
        sys.setprofile(None)
        return linalg.orthogonalise(x)

    assert "replaces the profile function" in said(unseen, POLAR)


def test_to_import_is_not_to_call() -> None:
    def importing(x: Tensor) -> Tensor:
        import importlib

        importlib.reload(importlib.import_module("tsvlib.errors"))
        return 2 * x

    errors = __import__("tsvlib.errors").errors
    before = dict(vars(errors))
    try:
        attempt(importing, "double", TRIAL)
    finally:
        vars(errors).update(before)


def test_who_watched_before_watches_again() -> None:
    sys = __import__("sys")

    def other(frame: object, event: str, argument: object) -> None:
        """Look on."""

    for before in (None, other):
        sys.setprofile(before)
        try:
            watching.watched(lambda: 1, ())
            assert sys.getprofile() is before
            with pytest.raises(ZeroDivisionError):
                watching.watched(lambda: 1 / 0, ())
            assert sys.getprofile() is before
        finally:
            sys.setprofile(None)
    assert threading.getprofile() is None
