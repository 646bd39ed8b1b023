# SPDX-License-Identifier: MIT
"""A merging method of a student's own as source text, and what it makes of experts, here or in a process apart."""

import inspect
import json
import math
import signal
import subprocess
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from compendium.course import confinement
from tsvlib import checkpoints, taskvectors
from tsvlib.errors import InputError
from tsvlib.taskvectors import StateDict, TaskVector

NAME = "own_method"
"""What the function is called."""

SECONDS = 60
"""Of computing in which a method must have merged a model, wherever it is run apart."""

PATIENCE = 600
"""Seconds after which a method that does not even compute is ended."""

TOO_LONG = (128 + signal.SIGXCPU, -signal.SIGKILL)
"""Statuses of a process that computed for too long, and of one for which patience ended."""

ORDER, UPDATE, REASON = "order.json", "update.safetensors", "reason.txt"
"""What stands in the folder of a process apart: what it is to do, and what came of it or why nothing did."""

Method = Callable[[list[Tensor]], Tensor]
"""From the task matrices of one layer to the update of it."""


def source_of(function: object) -> str:
    """Return the text of a function called ``own_method``; InputError when it has none, or needs what it lacks.

    Nothing but that text, ``torch`` and ``math`` is there when it is run again, so it must define all that it calls.
    """
    try:
        source = textwrap.dedent(inspect.getsource(function))  # type: ignore[arg-type]
    except (OSError, TypeError) as error:
        raise InputError(f"{NAME}: its text is not to be found; define it in a cell of the notebook.") from error
    method_of(source)
    return source


def method_of(source: str) -> Method:
    """Return the function that a text defines; InputError when it defines none of that name."""
    found: dict[str, object] = {"torch": torch, "math": math}
    try:
        exec(compile(source, NAME, "exec"), found)  # noqa: S102  (a method is code)
    except Exception as error:
        raise InputError(f"{NAME}: its text is no Python that runs ({_told(error)}); correct it.") from error
    method = found.get(NAME)
    if not callable(method):
        raise InputError(f"{NAME}: its text defines no function of that name; begin it with `def {NAME}(deltas):`.")
    return method


def update(method: Method, base: StateDict, experts: Sequence[StateDict]) -> TaskVector:
    """Return what a method makes of experts: its own update of every task matrix, the mean change of everything else.

    NotImplementedError passes. InputError when it stops otherwise, or returns no finite tensor with the layer's shape.
    """
    vectors = [taskvectors.task_vector(base, expert) for expert in experts]
    matrices = set(vectors[0].matrices)
    found = TaskVector()
    for key in base:
        deltas = [vector[key] for vector in vectors]
        found[key] = _merged(method, key, deltas) if key in matrices else torch.stack(deltas).mean(0)
    return found


def update_apart(source: str, base: Path, experts: Sequence[Path], seconds: int = SECONDS) -> TaskVector:
    """Return the update by a method that is only a text, from files, made by another process.

    That process has no network where walls allow that (see ``confinement``), ends after so many seconds of computing,
    has limits of memory and of what it may write, and leaves this one as it is, whatever the text does. InputError as
    for ``update``, and when nothing comes of it.
    """
    with TemporaryDirectory() as folder:
        place = Path(folder)
        files = {"base": str(base.absolute()), "experts": [str(expert.absolute()) for expert in experts]}
        order = files | {"source": source, "seconds": seconds}
        (place / ORDER).write_text(json.dumps(order), encoding="utf-8")
        if _run_apart(place) in TOO_LONG:
            raise InputError(f"{NAME}: it does not end within {seconds} seconds of computing; make it faster.")
        if (place / REASON).is_file():
            raise InputError((place / REASON).read_text(encoding="utf-8"))
        if not (place / UPDATE).is_file():
            raise InputError(f"{NAME}: it ended the process that ran it; let it return an update.")
        return TaskVector(checkpoints.load(place / UPDATE))


def _run_apart(place: Path) -> int:
    """Let another process do what stands in a folder, and return its status."""
    silent: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    with confinement.apart("compendium.course.remaking", place, PATIENCE, **silent) as process:
        return process.wait()


def _merged(method: Method, key: str, deltas: list[Tensor]) -> Tensor:
    try:
        found: object = method([delta.clone() for delta in deltas])
    except NotImplementedError:
        raise
    except NameError as error:
        told = f"{_told(error)}; define what it needs inside of it, since only its own text is handed in"
        raise InputError(f"{NAME}, on `{key}`: {told}.") from error
    except Exception as error:
        raise InputError(f"{NAME}, on `{key}`: it stopped with {_told(error)}; correct it.") from error
    if not isinstance(found, Tensor) or found.shape != deltas[0].shape:
        raise InputError(f"{NAME}, on `{key}`: it returns no tensor with the shape of the task matrices; correct it.")
    if not bool(found.isfinite().all()):
        raise InputError(f"{NAME}, on `{key}`: the update holds NaN or Inf; correct it.")
    return found.detach().to(deltas[0].dtype).contiguous()


def _told(error: Exception) -> str:
    """Return an error in a line without a full stop."""
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}"
