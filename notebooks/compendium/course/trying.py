# SPDX-License-Identifier: MIT
"""Tries a student's function on one input after another, and says in a sentence what is likely to be wrong with it."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compendium.course import watching

TOLERANCE = 1e-4
"""How far an answer in float32 may be from that in float64, as a share of the largest entry or of one."""

_OURS = Path(__file__).parent

Mistakes = Sequence[tuple[str, object]]
"""Sentences, each with what a function returns that makes the mistake of which the sentence tells."""


class Wrong(AssertionError):  # noqa: N818  (it is the answer that is wrong, not the program)
    """An answer is wrong, as one sentence says, with the likely mistake where one is recognised."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: the sentence, and the line at which a student's function stopped, if it did."""
        stopped = traceback.extract_tb(self.__cause__.__traceback__) if self.__cause__ else []
        ours = [number for number, frame in enumerate(stopped) if Path(frame.filename).is_relative_to(_OURS)]
        theirs = stopped[ours[-1] + 1 :] if ours else []
        where = [f"It stopped at line {theirs[0].lineno}: {theirs[0].line}"] if theirs else []
        return [f"{type(self).__name__}: {self}", *where]


@dataclass(frozen=True)
class Trial:
    """One input, the answer to it, and what known mistakes would make of it."""

    given: str
    """The input in words, such as ``a tall 7 x 3 matrix``."""
    arguments: tuple[object, ...]
    answer: object
    mistakes: Mistakes = ()
    hint: str = ""
    """What to think of when the function stops, or returns NaN or Inf, on this input."""
    tolerance: float = TOLERANCE


def attempt(function: object, name: str, trial: Trial, allowed: Sequence[str] = ()) -> None:
    """Call a function on copies of the arguments; ``name`` is that of the exercise, ``allowed`` may be called.

    Raises:
        Wrong: it stops, calls tsvlib, changes an argument, or does not return the answer.
        NotImplementedError: it has not been written yet.
    """
    found = called(function, name, trial, allowed)
    if is_same(found, trial.answer, trial.tolerance) and _is_of_kind(found, trial.answer):
        return
    trouble = _trouble(found, trial)
    raise Wrong(_sentence(name, trial, trouble))


def called(function: object, name: str, trial: Trial, allowed: Sequence[str] = ()) -> object:
    """Return what a function returns for a trial; the same errors as ``attempt``, but the answer is not looked at."""
    if not callable(function):
        raise Wrong(f"`{name}`: this is {_told(function)}; hand over the function itself, without calling it.")
    arguments = _copied(trial.arguments)
    try:
        seen = watching.watched(function, arguments, allowed)
    except NotImplementedError:
        raise
    except Exception as error:
        lines = str(error).strip().splitlines() or ["no message"]
        trouble = f"it stopped with {type(error).__name__}: {lines[0].rstrip('.')}{_after(trial.hint)}"
        raise Wrong(_sentence(name, trial, trouble)) from error
    if seen.ours:
        raise Wrong(_sentence(name, trial, f"it calls {seen.ours}; write this step yourself, with torch alone"))
    if seen.elsewhere or seen.unwatched:
        where = f"hands work over by {seen.elsewhere}" if seen.elsewhere else "replaces the profile function of Python"
        raise Wrong(_sentence(name, trial, f"it {where}; do the work where the function is called"))
    for number, (before, after) in enumerate(zip(trial.arguments, arguments, strict=True), start=1):
        if not _is_unchanged(before, after):
            trouble = f"it changes its argument number {number} in place; leave the arguments as they are"
            raise Wrong(_sentence(name, trial, trouble))
    return seen.returned


def is_same(found: object, wanted: object, tolerance: float = TOLERANCE) -> bool:
    """Tell whether two numbers, tensors, dictionaries or sequences agree up to rounding to float32."""
    if isinstance(wanted, Mapping):
        if not isinstance(found, Mapping) or found.keys() != wanted.keys():
            return False
        return all(is_same(found[key], wanted[key], tolerance) for key in wanted)
    if isinstance(wanted, list | tuple):
        if not isinstance(found, list | tuple) or len(found) != len(wanted):
            return False
        return all(is_same(one, two, tolerance) for one, two in zip(found, wanted, strict=True))
    if isinstance(wanted, Tensor) and not isinstance(found, Tensor):
        return False
    one, two = _numbers(found), _numbers(wanted)
    if one is None or two is None or one.shape != two.shape:
        return False
    return not one.numel() or bool((one - two).abs().max() <= tolerance * max(1.0, float(two.abs().max())))


def _trouble(found: object, trial: Trial) -> str:
    """Return what is wrong with a wrong answer: the first mistake that explains it, or where it goes astray."""
    answer = trial.answer
    if found is None:
        return "it returns nothing; end it with `return`, since what is only printed is lost"
    for sentence, value in trial.mistakes:
        if is_same(found, value, trial.tolerance) and not is_same(value, answer, trial.tolerance):
            return sentence
    if not _is_of_kind(found, answer):
        return f"it returns {_told(found)}, where {_told(answer)} is wanted"
    if isinstance(answer, Mapping) and isinstance(found, Mapping):
        return _trouble_of_entry(found, answer, trial)
    one, two = _numbers(found), _numbers(answer)
    if one is None or two is None or one.shape != two.shape:
        return f"it returns {_told(found)}, where {_told(answer)} is wanted"
    if not bool(one.isfinite().all()):
        return f"it returns NaN or Inf{_after(trial.hint)}"
    return f"the answer is off by up to {float((one - two).abs().max()):.2g}, and no usual mistake explains that"


def _trouble_of_entry(found: Mapping[str, object], answer: Mapping[str, object], trial: Trial) -> str:
    if lacking := [key for key in answer if key not in found]:
        return f"the result lacks the entry `{lacking[0]}`"
    if further := [key for key in found if key not in answer]:
        return f"the result has an entry `{further[0]}`, which does not belong there"
    key = next(key for key in answer if not is_same(found[key], answer[key], trial.tolerance))
    return f"entry `{key}`: {_trouble(found[key], Trial(trial.given, (), answer[key], hint=trial.hint))}"


def _numbers(x: object) -> Tensor | None:
    """Return a number or tensor in float64, and None for anything else."""
    if isinstance(x, Tensor):
        return None if x.is_complex() else x.detach().cpu().double()
    return torch.tensor(float(x), dtype=torch.float64) if isinstance(x, Real) and not isinstance(x, bool) else None


def _is_of_kind(found: object, answer: object) -> bool:
    """Tell whether the type of a result is that of the answer; a tensor without dimensions passes for a number."""
    if isinstance(answer, Mapping):
        return isinstance(found, Mapping)
    if isinstance(answer, Tensor):
        return isinstance(found, Tensor)
    if isinstance(answer, list | tuple):
        return isinstance(found, list | tuple)
    if isinstance(found, Tensor):
        return found.ndim == 0 and (not isinstance(answer, int) or not found.is_floating_point())
    return isinstance(found, Integral if isinstance(answer, int) else Real) and not isinstance(found, bool)


def _told(x: object) -> str:
    """Return in words what a value is, without its content unless that is a number."""
    if isinstance(x, Tensor):
        return f"a tensor of shape {' x '.join(map(str, x.shape))}" if x.ndim else "a tensor without dimensions"
    if isinstance(x, bool) or not isinstance(x, Real):
        return f"something of type {type(x).__name__}"
    return f"the {'whole number' if isinstance(x, Integral) else 'float'} {float(x):.4g}"


def _copied(x: Any) -> Any:
    """Return a copy that shares no tensor with the original."""
    if isinstance(x, Tensor):
        return x.clone()
    if isinstance(x, Mapping):
        return {key: _copied(value) for key, value in x.items()}
    return type(x)(map(_copied, x)) if isinstance(x, list | tuple) else x


def _is_unchanged(before: Any, after: Any) -> bool:
    """Tell whether an argument still holds exactly what it held."""
    if isinstance(before, Tensor):
        return before.shape == after.shape and before.dtype == after.dtype and torch.equal(before, after)
    if isinstance(before, Mapping):
        return before.keys() == after.keys() and all(_is_unchanged(before[key], after[key]) for key in before)
    if isinstance(before, list | tuple):
        return len(before) == len(after) and all(map(_is_unchanged, before, after))
    return bool(before == after)


def _sentence(name: str, trial: Trial, trouble: str) -> str:
    return f"`{name}`, tried on {trial.given}: {trouble}."


def _after(hint: str) -> str:
    return f"; {hint}" if hint else ""
