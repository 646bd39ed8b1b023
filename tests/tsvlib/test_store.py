# SPDX-License-Identifier: MIT
"""The store of decompositions changes what a result costs, never what it is."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from compendium.paths import ROOT
from tsvlib import checkpoints, devices, linalg
from tsvlib.errors import InputError
from tsvlib.linalg import Factors
from tsvlib.store import Spectra

ASKER = """
import sys, torch
from pathlib import Path
from tsvlib import linalg
from tsvlib.store import Spectra
store = Spectra(Path(sys.argv[1]), int(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for seed in [*range(12)] * 6:
    delta = torch.randn(20, 12, generator=torch.Generator().manual_seed(seed))
    assert all(map(torch.equal, store.factors(delta, 5), linalg.leading(delta, 5))), seed
"""
PUTTER = """
import os, sys, time, torch
from pathlib import Path
from tsvlib.store import Spectra
setattr(os, sys.argv[2], lambda *arguments: (print("ready", flush=True), time.sleep(60)))
Spectra(Path(sys.argv[1])).factors(torch.randn(20, 12, generator=torch.Generator().manual_seed(0)), 5)
"""


def matrix(seed: int = 0, rows: int = 20, columns: int = 12, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).to(dtype)


def bits(factors: Factors) -> list[object]:
    """Return all that may make a difference to what is computed with factors."""
    return [(part.dtype, part.shape, part.stride(), part.numpy().tobytes()) for part in factors]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def only(store: Spectra) -> Path:
    [entry] = store.list()
    return store.folder / f"{entry.name}.safetensors"


def mark(path: Path) -> None:
    """Double the singular values of an intact entry, so that what comes from it can be told from a new one."""
    tensors = checkpoints.load(path)
    checkpoints.save(path, tensors | {"s": 2 * tensors["s"]}, checkpoints.recipe(path))


def size(store: Spectra) -> int:
    """Return the bytes of an entry with five components, and leave the store empty."""
    store.factors(matrix(), 5)
    return store.clear()


@pytest.fixture
def store(tmp_path: Path) -> Spectra:
    return Spectra(tmp_path / "cache" / "spectra")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(20, 12), (12, 20), (9, 9), (1, 5)])
@pytest.mark.parametrize("k", [1, 4, 12, 99])
def test_hit_equals_miss_bit_for_bit(store: Spectra, shape: tuple[int, int], dtype: torch.dtype, k: int) -> None:
    delta = matrix(0, *shape, dtype)
    missed, hit = store.factors(delta, k), store.factors(delta, k)
    again = Spectra(store.folder).factors(delta.T.contiguous().T, k)
    assert bits(missed) == bits(hit) == bits(again)
    assert all(map(torch.equal, hit, linalg.leading(delta, k)))


def test_an_entry_serves_the_number_that_it_was_made_for(store: Spectra) -> None:
    # The leading components of a longer decomposition differ from a shorter one in the last digits.
    delta = matrix(0, 300, 200)
    for k in (100, 40, 70, 40):
        assert all(map(torch.equal, store.factors(delta, k), linalg.leading(delta, k)))
    assert sorted(entry.rank for entry in store.list()) == [40, 70, 100]


def test_a_whole_entry_serves_any_number(tmp_path: Path) -> None:
    store = Spectra(tmp_path, whole=True)
    whole = store.factors(matrix(), 12)
    mark(only(store))
    few = Factors(whole.u[:, :3], 2 * whole.s[:3], whole.vh[:3])
    assert all(map(torch.equal, store.factors(matrix(), 3), few))
    assert torch.equal(store.factors(matrix(), 99).s, 2 * whole.s)


def test_no_component_at_all_is_refused(store: Spectra) -> None:
    for k in (0, -1):
        with pytest.raises(InputError, match="keep at least one component"):
            store.factors(matrix(), k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_own_just_their_memory(store: Spectra, dtype: torch.dtype) -> None:
    delta = matrix(dtype=dtype)
    store.factors(matrix(1, dtype=dtype), 12)
    for part in (*store.factors(delta, 2), *store.factors(delta, 2), *store.factors(matrix(1, dtype=dtype), 2)):
        assert part.untyped_storage().nbytes() == part.numel() * part.itemsize
        part.zero_()
    assert store.factors(delta, 2).s.all()


def test_any_changed_or_missing_byte_is_noticed(store: Spectra) -> None:
    delta = matrix(0, 4, 3)
    expected, path = store.factors(delta, 2), only(store)
    content = path.read_bytes()
    for position in range(0, len(content), 5):
        damaged = bytearray(content)
        damaged[position] ^= 0x01
        for broken in (bytes(damaged), content[:position]):
            path.write_bytes(broken)
            assert bits(store.factors(delta, 2)) == bits(expected)
            assert path.read_bytes() == content


def test_foreign_files_are_replaced_and_told(store: Spectra, caplog: pytest.LogCaptureFixture) -> None:
    expected, path = store.factors(matrix(), 2), only(store)
    content = path.read_bytes()
    other = Spectra(store.folder / "other")
    other.factors(matrix(1), 2)
    foreign: list[Callable[[], object]] = [
        lambda: path.write_bytes(only(other).read_bytes()),
        lambda: checkpoints.save(path, {"w": torch.zeros(2)}, {"method": "tsv_m"}),
        lambda: save_file({"u": torch.zeros(2, 2)}, path),
        lambda: torch.save({}, path),
    ]
    for write in foreign:
        write()
        assert bits(store.factors(matrix(), 2)) == bits(expected)
        assert path.read_bytes() == content
    assert [record.getMessage().split(": ")[0] for record in caplog.records] == [str(path)] * len(foreign)


sides, types = st.integers(1, 3), st.sampled_from([torch.float32, torch.float64])
matrices = st.builds(lambda *drawn: matrix(*drawn).round(), st.integers(0, 3), sides, sides, types)


@settings(max_examples=40)
@given(matrices, matrices)
@example(torch.zeros(2, 3), torch.zeros(3, 2))
@example(torch.zeros(1, 4), torch.zeros(1, 2, dtype=torch.float64))
@example(torch.eye(2), torch.eye(2, dtype=torch.float64))
@example(torch.zeros(1, 1), -torch.zeros(1, 1))
@example(torch.eye(2), torch.eye(2))
def test_only_the_same_matrix_shares_an_entry(one: Tensor, other: Tensor) -> None:
    equal = (one.dtype, one.shape, one.numpy().tobytes()) == (other.dtype, other.shape, other.numpy().tobytes())
    with TemporaryDirectory() as folder:
        store = Spectra(Path(folder))
        store.factors(one, 1)
        found = store.factors(other, 1)
        assert len(store.list()) == (1 if equal else 2)
    assert (found.s.dtype, found.product().shape) == (other.dtype, other.shape)


def test_another_way_of_decomposing_never_shares_an_entry(store: Spectra, monkeypatch: pytest.MonkeyPatch) -> None:
    store.factors(matrix(), 2)
    mark(only(store))
    monkeypatch.setattr(linalg, "SOLVER", "another")
    assert torch.equal(store.factors(matrix(), 2).s, linalg.leading(matrix(), 2).s)
    assert len(store.list()) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("entries", "left"), [(0, {1}), (3, {1, 2, 3}), (100, {12})])
def test_two_processes_at_once(store: Spectra, entries: int, left: set[int]) -> None:
    command = [sys.executable, "-c", ASKER, str(store.folder), str(entries * size(store))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    askers = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(2)]  # type: ignore[call-overload]
    assert [asker.stdout.readline() for asker in askers] == ["ready\n"] * 2
    for asker in askers:
        print("go", file=asker.stdin, flush=True)
    for asker in askers:
        assert asker.communicate(timeout=120) == ("", "")
        assert asker.returncode == 0
    # Two that make room at once may remove more than needed, never the entry that both used last.
    assert len(store.list()) in left
    assert len(names(store.folder)) == len(store.list())


def test_threads_with_different_ranks_at_once(store: Spectra) -> None:
    store.limit = 4000
    asked = [(seed, k) for k in (2, 7, 4) for seed in (0, 1, 0, 2)] * 3
    found = devices.ordered(lambda one: store.factors(matrix(one[0]), one[1]), asked, workers=4)
    for (seed, k), factors in zip(asked, found, strict=True):
        assert len(factors.s) == k
        torch.testing.assert_close(factors.product(), linalg.leading(matrix(seed), k).product())


def test_killed_process_leaves_no_half_entry(store: Spectra) -> None:
    command = [sys.executable, "-c", PUTTER, str(store.folder), "replace"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as putter:
        assert putter.stdout is not None
        assert putter.stdout.readline() == "ready\n"
        putter.send_signal(signal.SIGKILL)
    assert store.list() == []
    assert [Path(name).suffix for name in names(store.folder)] == [".part"]
    store.factors(matrix(), 5)
    assert names(store.folder) == [only(store).name]


def test_leftovers_count_and_go_like_entries_but_files_of_others_stay(store: Spectra) -> None:
    store.limit = 2 * size(store)
    leftover = store.folder / f".{'0' * 64}.safetensors.0a1b2c3d.part"
    others = ["model.safetensors", "notes.txt", f"{'A' * 64}.safetensors", ".model.safetensors.0a1b2c3d.part"]
    for name in [leftover.name, *others]:
        (store.folder / name).write_text("x" * 5000)
        os.utime(store.folder / name, (0, 0))
    store.factors(matrix(0), 5)
    store.factors(matrix(1), 5)
    assert not leftover.exists()
    assert len(store.list()) == 2
    leftover.write_bytes(bytes(5000))
    assert store.clear() == 5000 + store.limit
    assert names(store.folder) == sorted(others)


def test_the_least_recently_used_go_first_and_the_last_never(store: Spectra) -> None:
    store.limit = 2 * size(store)
    for seed, k in ((0, 5), (1, 4), (0, 5), (2, 3)):
        store.factors(matrix(seed), k)
    # The first one was used again after the second, which therefore had to go.
    assert [entry.rank for entry in store.list()] == [5, 3]
    store.limit = 0
    expected = store.factors(matrix(3), 5)
    mark(only(store))
    assert torch.equal(store.factors(matrix(3), 5).s, 2 * expected.s)


def test_full_or_read_only_disk_still_serves_what_it_holds(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = Spectra(small_disk).factors(matrix(0), 5)
    mark(only(Spectra(small_disk)))
    for trouble in ("the disk is full", "the file system is read-only"):
        store = Spectra(small_disk)
        for seed in (1, 2):
            large = matrix(seed, 200, 150)
            assert torch.equal(store.factors(large, 150).vh, linalg.leading(large, 150).vh)
            # This one would fit, but a disk that has been full once is left alone.
            store.factors(matrix(seed), 5)
        assert torch.equal(store.factors(matrix(0), 5).s, 2 * expected.s)
        assert names(small_disk) == [only(store).name]
        assert [trouble in record.getMessage() for record in caplog.records] == [True]
        caplog.clear()
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert store.clear() == 0


def test_file_in_place_of_the_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a").write_text("a file")
    store = Spectra(tmp_path / "a")
    for _ in range(2):
        assert torch.equal(store.factors(matrix(), 5).s, linalg.leading(matrix(), 5).s)
    assert ["a part of the path is a file" in record.getMessage() for record in caplog.records] == [True]
    assert (store.list(), store.clear()) == ([], 0)
    assert (tmp_path / "a").read_text() == "a file"


def test_list_and_clear(store: Spectra) -> None:
    assert (store.list(), store.clear()) == ([], 0)
    store.factors(matrix(0), 3)
    store.factors(matrix(1, 7, 9), 99)
    first, second = store.list()
    assert [(entry.shape, entry.rank) for entry in (first, second)] == [((20, 12), 3), ((7, 9), 7)]
    assert first.last_use < second.last_use <= datetime.now(UTC)
    sizes = {path.name: path.stat().st_size for path in store.folder.iterdir()}
    assert sizes == {f"{entry.name}.safetensors": entry.bytes for entry in (first, second)}
    (store.folder / f"{first.name}.safetensors").write_text("damaged")
    assert [entry.name for entry in store.list()] == [second.name]
    assert store.clear() == len("damaged") + second.bytes
    assert names(store.folder) == []
