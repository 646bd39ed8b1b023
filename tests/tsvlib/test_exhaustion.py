# SPDX-License-Identifier: MIT
"""A lack of memory is known by whoever tells of it, and nothing else is taken for it."""

import errno
import pickle

import pytest

from tsvlib import exhaustion
from tsvlib.errors import InputError

LACKS = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("unable to mmap 134219071 bytes from file <a.pt>: Cannot allocate memory (12)"),
    RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("can't start new thread"),
    RuntimeError("std::bad_alloc"),
    ImportError("libtorch.so: failed to map segment from shared object"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]
OTHERS = [
    ValueError("out of memory"),
    pickle.UnpicklingError("GLOBAL out of memory"),
    OSError(errno.ENOSPC, "out of memory"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    InputError("a.pt: out of memory; download it again."),
]


@pytest.mark.parametrize("error", LACKS, ids=repr)
def test_every_way_to_tell_is_known_and_ends_in_the_figure_of_the_plan(error: Exception) -> None:
    sentence = r"the memory has run out, where about 2 GB were planned .*; use fewer workers, .*\.$"
    with pytest.raises(InputError, match=sentence), exhaustion.bounded(lambda: "about 2 GB"):
        raise error


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_nothing_else_is_taken_for_it(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, exhaustion.bounded(lambda: "about 2 GB"):
        raise error
    assert caught.value is error
