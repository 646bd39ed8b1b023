# SPDX-License-Identifier: MIT
"""A few eigenpairs of a symmetric matrix on the CPU, without the lock that keeps Python's threads apart.

PyTorch offers no partial eigendecomposition, and SciPy's holds the lock. SciPy publishes the addresses of the LAPACK
routines that it ships (``scipy.linalg.cython_lapack``), and ``ctypes`` lets go of the lock while it calls one.
"""

import ctypes
from functools import cache

import torch
from jaxtyping import Float
from scipy.linalg import cython_lapack
from torch import Tensor

_ROUTINES = {torch.float32: "ssyevr", torch.float64: "dsyevr"}
_REALS = {torch.float32: ctypes.c_float, torch.float64: ctypes.c_double}
_N_ARGUMENTS = 21


def largest_eigenpairs(symmetric: Float[Tensor, "n n"], k: int) -> tuple[Float[Tensor, " k"], Float[Tensor, "n k"]]:
    """Return the k largest eigenvalues, ascending, and their eigenvectors (LAPACK's syevr).

    float32 or float64 on the CPU; only the lower triangle is read.

    Raises:
        ValueError: k is not between 1 and n.
        RuntimeError: LAPACK found no answer.

    >>> values, vectors = largest_eigenpairs(torch.diag(torch.tensor([3.0, 1.0, 2.0])), 2)
    >>> values, vectors.abs().argmax(dim=0)
    (tensor([2., 3.]), tensor([2, 0]))
    """
    n, real = len(symmetric), _REALS[symmetric.dtype]
    if not 1 <= k <= n:
        raise ValueError(f"there are no {k} eigenpairs of a matrix with {n} rows")
    # LAPACK counts along columns: the lower triangle of rows is its upper one. It overwrites what it reads.
    matrix, values, vectors = symmetric.clone(), symmetric.new_empty(n), symmetric.new_empty(k, n)
    support, found, info = torch.empty(2 * n, dtype=torch.int32), ctypes.c_int(), ctypes.c_int()
    work, lwork = symmetric.new_empty(1), -1
    iwork, liwork = torch.empty(1, dtype=torch.int32), -1
    for _ in range(2):  # the first call only asks how much room the second one needs
        _routine(symmetric.dtype)(
            b"V", b"I", b"U", _int(n), _at(matrix), _int(n), ctypes.byref(real()), ctypes.byref(real()),
            _int(n - k + 1), _int(n), ctypes.byref(real()), ctypes.byref(found), _at(values), _at(vectors), _int(n),
            _at(support), _at(work), _int(lwork), _at(iwork), _int(liwork), ctypes.byref(info),
        )  # fmt: skip
        if lwork < 0:
            lwork, liwork = int(work[0]), int(iwork[0])
            work, iwork = symmetric.new_empty(lwork), torch.empty(liwork, dtype=torch.int32)
    if info.value or found.value != k:
        raise RuntimeError(f"LAPACK's {_ROUTINES[symmetric.dtype]} failed with code {info.value}")
    return values[:k], vectors.mT


@cache
def _routine(dtype: torch.dtype) -> "ctypes._FuncPointer":
    capsule = cython_lapack.__pyx_capi__[_ROUTINES[dtype]]
    name_of, pointer_in = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_in.restype, pointer_in.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * _N_ARGUMENTS)(pointer_in(capsule, name_of(capsule)))


def _int(number: int) -> "ctypes._CArgObject":
    return ctypes.byref(ctypes.c_int(number))


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
