# SPDX-License-Identifier: MIT
"""The largest eigenpairs of symmetric matrices, on the CPU without the lock that keeps Python's threads apart.

PyTorch offers no partial eigendecomposition, and SciPy's hold the lock. SciPy publishes the addresses of the LAPACK
routines that it ships (``scipy.linalg.cython_lapack``), and ``ctypes`` lets go of the lock while it calls one. Stacks
of matrices, what lies on a GPU, and whatever needs all eigenpairs are left to PyTorch.
"""

import ctypes
from collections.abc import Iterator
from functools import cache

import torch
from jaxtyping import Float
from scipy.linalg import cython_lapack
from torch import Tensor

_REALS = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}
_NAMES = {torch.float32: "ssyevr", torch.float64: "dsyevr"}
_N_ARGUMENTS = 21


def largest_eigenpairs(
    symmetric: Float[Tensor, "*stack n n"], k: int
) -> tuple[Float[Tensor, "*stack k"], Float[Tensor, "*stack n k"]]:
    """Return the k largest eigenvalues, ascending, and their eigenvectors (LAPACK's syevr).

    float32 or float64; only the lower triangle is read. Of eigenvalues that lie close together syevr, asked for a few,
    may find too few or give up; then all are found, and the largest kept.

    Raises:
        ValueError: k is not between 1 and n.
        RuntimeError: LAPACK found no answer, as for NaN.

    >>> values, vectors = largest_eigenpairs(torch.diag(torch.tensor([3.0, 1.0, 2.0])), 2)
    >>> values, vectors.abs().argmax(dim=0)
    (tensor([2., 3.]), tensor([2, 0]))
    """
    n = symmetric.shape[-1]
    if not 1 <= k <= n:
        raise ValueError(f"there are no {k} eigenpairs of a matrix with {n} rows")
    partial = k < n and symmetric.ndim == 2 and symmetric.device.type == "cpu"
    if partial and (found := _syevr(symmetric, k)) is not None:
        return found
    values, vectors = torch.linalg.eigh(symmetric)
    return values[..., n - k :], vectors[..., n - k :]


def _syevr(symmetric: Float[Tensor, "n n"], k: int) -> tuple[Float[Tensor, " k"], Float[Tensor, "n k"]] | None:
    """Return the k largest eigenpairs, or None where LAPACK finds fewer."""
    n, real = len(symmetric), _REALS[symmetric.dtype]
    # LAPACK counts along columns: the lower triangle of rows is its upper one. It overwrites what it reads.
    matrix, values, vectors = symmetric.clone(), symmetric.new_empty(n), symmetric.new_empty(k, n)
    support, found, info = torch.empty(2 * n, dtype=torch.int32), ctypes.c_int(), ctypes.c_int()
    for work, iwork, sizes in _workspaces(symmetric.dtype):
        _syevr_of(symmetric.dtype)(
            b"V", b"I", b"U", _int(n), _at(matrix), _int(n), ctypes.byref(real()), ctypes.byref(real()),
            _int(n - k + 1), _int(n), ctypes.byref(real()), ctypes.byref(found), _at(values), _at(vectors), _int(n),
            _at(support), _at(work), _int(sizes[0]), _at(iwork), _int(sizes[1]), ctypes.byref(info),
        )  # fmt: skip
    return None if info.value or found.value != k else (values[:k], vectors.mT)


def _workspaces(dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor, tuple[int, int]]]:
    """Yield room to work for two calls: the first one, of size -1, only asks how much the second one needs."""
    work, iwork = torch.empty(1, dtype=dtype), torch.empty(1, dtype=torch.int32)
    yield work, iwork, (-1, -1)
    sizes = int(work[0]), int(iwork[0])
    yield torch.empty(sizes[0], dtype=dtype), torch.empty(sizes[1], dtype=torch.int32), sizes


@cache
def _syevr_of(dtype: torch.dtype) -> "ctypes._FuncPointer":
    capsule = cython_lapack.__pyx_capi__[_NAMES[dtype]]
    name_of, pointer_in = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_in.restype, pointer_in.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * _N_ARGUMENTS)(pointer_in(capsule, name_of(capsule)))


def _int(number: int) -> "ctypes._CArgObject":
    return ctypes.byref(ctypes.c_int(number))


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
