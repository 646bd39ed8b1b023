# SPDX-License-Identifier: MIT
"""Memory that runs out, in whatever words libraries tell of it."""

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tsvlib.errors import InputError

_WORDS = re.compile(
    r"(?:can't|cannot|can not|could not|unable to|failed to) (?:allocate|map segment|start new thread)"
    r"|out of memory|alloc_failed|bad[_ ]alloc",
    re.IGNORECASE,
)


def is_told_by(error: BaseException) -> bool:
    """Tell whether an error of Python, PyTorch, LAPACK, CUDA or the system says that there is no memory left.

    >>> is_told_by(MemoryError()), is_told_by(RuntimeError("CUDA out of memory.")), is_told_by(ValueError("w"))
    (True, True, False)
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError | ImportError | OSError):
        return _WORDS.search(str(error)) is not None
    return isinstance(error, MemoryError)


def sentence(planned: str = "") -> str:
    """Say that memory has run out, beside how much was planned."""
    figure = f", where {planned} were planned beside what the program itself takes" if planned else ""
    return f"the memory has run out{figure}; use fewer workers, end other programs or take a machine with more."


@contextmanager
def bounded(planned: Callable[[], str]) -> Iterator[None]:
    """Turn a lack of memory in the block into an InputError that says how much was planned, such as `about 2 GB`.

    ``planned`` is asked then alone: planning thousands of tensors takes seconds.
    """
    try:
        yield
    except Exception as error:
        if not is_told_by(error):
            raise
        raise InputError(sentence(planned())) from error
