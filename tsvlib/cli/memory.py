# SPDX-License-Identifier: MIT
"""What is said when the memory of a workflow runs out: the figure that its plan gives."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tsvlib import exhaustion
from tsvlib.cli import planning, sums

Given = ParamSpec("Given")
Result = TypeVar("Result")


def planned(workflow: Callable[Given, Result]) -> Callable[Given, Result]:
    """Return a workflow, which takes ``inputs`` and ``session``, that ends in an InputError when memory runs out."""
    signature = inspect.signature(workflow)

    @functools.wraps(workflow)
    def bounded(*arguments: Given.args, **named: Given.kwargs) -> Result:
        given = signature.bind(*arguments, **named).arguments
        inputs, session = given["inputs"], given["session"]
        files = len(sums.numbers(given.get("alpha", 1.0)))

        def figure() -> str:
            plan = planning.plan(inputs.suite, inputs.base.layout, files, rule=session.rule, workers=session.workers)
            workers = f"{session.workers} worker{'s' if session.workers > 1 else ''}"
            return f"about {planning.prefixed(plan.memory, 'B')} for {workers}"

        with exhaustion.bounded(figure):
            return workflow(*arguments, **named)

    return bounded
