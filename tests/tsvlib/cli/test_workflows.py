# SPDX-License-Identifier: MIT
"""Files in, files out: right, the same on any number of workers, and with little in memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_models
import torch
from oracles import DEVICES
from safetensors.torch import save_file

from compendium import paths
from tsvlib import checkpoints, linalg
from tsvlib.cli import measurements, workflows
from tsvlib.cli.workflows import Inputs, Session
from tsvlib.store import Spectra
from tsvlib.taskvectors import MatrixRule


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, list[Path]]:
    return small_models.write(tmp_path / "models")


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_merged_file_is_the_papers_algorithm(models, tmp_path: Path, alpha: float, device: str) -> None:
    out = tmp_path / "merged.safetensors"
    workflows.merge(Inputs(*models), out, "tsv-m", alpha, Session(device=torch.device(device)))
    found, expected = checkpoints.load(out), small_models.merged(3, alpha)
    assert found.keys() == expected.keys()
    for key, tensor in found.items():
        assert tensor.dtype == small_models.state(0)[key].dtype
        np.testing.assert_allclose(tensor.double().numpy(), expected[key], rtol=1e-4, atol=1e-5)
        if key in small_models.UNTRAINED or not tensor.is_floating_point():
            assert torch.equal(tensor, small_models.state(0)[key])


def test_order_of_experts_hardly_matters(models, tmp_path: Path) -> None:
    base, experts = models
    for name, order in {"one": experts, "other": experts[::-1]}.items():
        workflows.merge(Inputs(base, order), tmp_path / f"{name}.safetensors", "tsv-m", 1.0, Session())
    one, other = (checkpoints.load(tmp_path / f"{name}.safetensors") for name in ("one", "other"))
    for key in set(small_models.SHAPES) - small_models.UNTRAINED:
        assert (one[key] - other[key]).norm() <= 1e-6 * (one[key] - small_models.state(0)[key]).norm()


def test_the_recipe_names_the_versions_that_can_change_a_bit(models, tmp_path: Path) -> None:
    workflows.merge(Inputs(*models), tmp_path / "out.safetensors", "tsv-m", 1.0, Session())
    recipe = checkpoints.recipe(tmp_path / "out.safetensors")
    assert recipe["versions"].keys() == {"python", "numpy", "scipy", "torch"}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_are_merged_in_single_precision_and_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    states = [{key: tensor.to(dtype) for key, tensor in small_models.trained(seed).items()} for seed in range(4)]
    files = [tmp_path / f"{seed}.safetensors" for seed in range(4)]
    for file, state in zip(files, states, strict=True):
        checkpoints.save(file, state, {})
    workflows.merge(Inputs(files[0], files[1:]), tmp_path / "out.safetensors", "tsv-m", 0.7, Session())
    expected = small_models.merged(3, 0.7, states)
    eps = max(torch.finfo(dtype).eps, 1e-6)
    for key, tensor in checkpoints.load(tmp_path / "out.safetensors").items():
        assert tensor.dtype == dtype
        np.testing.assert_allclose(tensor.double().numpy(), expected[key], rtol=eps, atol=5e-6)


@pytest.mark.parametrize(
    "method", ["tsv-m", "task_arithmetic", "interference-reduction", "consensus-ta", "ties", "iso-c"]
)
def test_workers_and_the_store_change_no_byte(models, tmp_path: Path, method: str) -> None:
    out = tmp_path / "merged.safetensors"
    expected = workflows.merge(Inputs(*models), out, method, 1.0, Session())
    content = out.read_bytes()
    store = Spectra(tmp_path / "store")
    for session in (Session(workers=2), Session(workers=3, spectra=store), Session(spectra=store)):
        assert workflows.merge(Inputs(*models), out, method, 1.0, session) == expected
        assert out.read_bytes() == content


def test_folders_shards_and_pickles_give_the_same_tensors(models, tmp_path: Path) -> None:
    base, experts = models
    folder = tmp_path / "hub"
    folder.mkdir()
    shards = {key: f"model-{number % 2}.safetensors" for number, key in enumerate(small_models.state(1))}
    for name in set(shards.values()):
        save_file({k: t for k, t in small_models.state(1).items() if shards[k] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    torch.save(small_models.state(2), tmp_path / "expert2.pt")
    workflows.merge(Inputs(*models), tmp_path / "one.safetensors", "tsv-m", 1.0, Session())
    others = Inputs(base, [folder, tmp_path / "expert2.pt", experts[2]])
    workflows.merge(others, tmp_path / "other.safetensors", "tsv-m", 1.0, Session())
    one, other = (checkpoints.load(tmp_path / f"{name}.safetensors") for name in ("one", "other"))
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize(("rank", "k"), [("1/4", 3), ("0.5", 6), ("5", 5), ("1.0", 12)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_compressed_file_has_the_bytes_of_the_formula(models, tmp_path: Path, rank: str, k: int, dtype: str) -> None:
    base, experts = models
    out, again = tmp_path / "factors.safetensors", tmp_path / "expert.safetensors"
    workflows.compress(Inputs(base, experts[:1]), out, rank, dtype, Session(workers=2))
    size = {"float32": 4}.get(dtype, 2)
    values = size * k * ((24 + 12) + (12 + 15)) + 4 * 2 * k + 4 * (8 * 3 * 2 * 2 + 5)
    header = 8 + int.from_bytes(out.read_bytes()[:8], "little")
    assert out.stat().st_size == header + values
    workflows.expand(Inputs(base, []), out, again, 1.0, Session())
    found, start, end = checkpoints.load(again), small_models.state(0), small_models.state(1)
    tolerance = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 1e-2}[dtype]
    for key, tensor in found.items():
        expected = end[key]
        if key in small_models.MATRICES:
            expected = start[key] + linalg.leading(end[key] - start[key], k).product()
        torch.testing.assert_close(tensor, expected, rtol=tolerance, atol=tolerance)


def test_expanding_halves_and_parts(models, tmp_path: Path) -> None:
    base, experts = models
    out, again = tmp_path / "factors.safetensors", tmp_path / "expert.safetensors"
    session = Session(MatrixRule(split_qkv=True, convolutions=True))
    workflows.compress(Inputs(base, experts[:1]), out, "energy=1", "float32", session)
    workflows.expand(Inputs(base, []), out, again, 0.5, session)
    start, end = small_models.state(0), small_models.state(1)
    for key, tensor in checkpoints.load(again).items():
        torch.testing.assert_close(tensor, (start[key] + end[key]) / 2 if key in SHAPED else start[key])


SHAPED = set(small_models.SHAPES) - small_models.UNTRAINED


def test_interference_table_is_equation_6(models, tmp_path: Path) -> None:
    frame = measurements.interference(Inputs(*models), tmp_path / "sti.csv", "1/3", Session(workers=2))
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "sti.csv"), frame)
    rows = frame.set_index("key")
    assert set(rows.index) == small_models.MATRICES | {"token_embedding.weight"}
    assert rows.loc["token_embedding.weight", "entrywise"] == 0
    for key in small_models.MATRICES:
        deltas = [(small_models.state(seed)[key] - small_models.state(0)[key]).double() for seed in (1, 2, 3)]
        kept = [linalg.truncate(linalg.svd(delta), 4) for delta in deltas]
        u, vh = torch.cat([f.u for f in kept], 1), torch.cat([f.vh for f in kept])
        eye = torch.eye(12, dtype=u.dtype)
        dense = (u.T @ u - eye) @ torch.cat([f.s for f in kept]).diag() @ (vh @ vh.T - eye)
        assert rows.loc[key, "entrywise"] == pytest.approx(float(dense.abs().sum()), rel=1e-4)
        assert rows.loc[key, "induced"] == pytest.approx(float(torch.linalg.matrix_norm(dense, 1)), rel=1e-4)
        assert rows.loc[key, ["tasks", "components"]].tolist() == [3, 12]


def test_spectra_table_tells_rank_and_energy(models, tmp_path: Path) -> None:
    frame = measurements.spectra(Inputs(*models), tmp_path / "spectra.csv", Session(workers=2))
    assert len(frame) == 3 * len(small_models.MATRICES)
    row = frame[(frame.key == "visual.proj") & (frame.expert == 2)].iloc[0]
    s = torch.linalg.svdvals((small_models.state(2)["visual.proj"] - small_models.state(0)["visual.proj"]).double())
    assert row.largest == pytest.approx(float(s[0]), rel=1e-5)
    assert row.norm == pytest.approx(float(s.norm()), rel=1e-5)
    assert row.stable_rank == pytest.approx(float((s.norm() / s[0]) ** 2), rel=1e-4)
    energy = (s**2).cumsum(0) / (s**2).sum()
    assert row["energy_0.9"] == 1 + int((energy < 0.9).sum())


PEAK = """
import resource, sys, torch
from pathlib import Path
from tsvlib import checkpoints
from tsvlib.cli import workflows
folder, n_keys = Path(sys.argv[1]), int(sys.argv[2])
def tensors(seed):
    random = torch.Generator().manual_seed(seed)
    return ((f"layer{number:03}.weight", torch.randn(4096, 64, generator=random)) for number in range(n_keys))
info = checkpoints.TensorInfo(torch.float32, (4096, 64))
layout = {f"layer{number:03}.weight": info for number in range(n_keys)}
files = [folder / f"{seed}.safetensors" for seed in range(3)]
for seed, file in enumerate(files):
    checkpoints.write(file, layout, {}, tensors(seed))
inputs = workflows.Inputs(files[0], files[1:])
workflows.merge(inputs, folder / "out.safetensors", sys.argv[3], 1.0, workflows.Session())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tsv-m", "ties", "consensus-ta"])
def test_peak_memory_does_not_grow_with_the_number_of_tensors(tmp_path: Path, method: str) -> None:
    peaks = {}
    for n_keys in (8, 64):
        folder = tmp_path / str(n_keys)
        folder.mkdir()
        command = [sys.executable, "-c", PEAK, str(folder), str(n_keys), method]
        environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        peaks[n_keys] = int(done.stdout) / 1024
    # 56 more tensors of 1 MB in each of four files; what is allowed is noise of the allocator.
    assert peaks[64] - peaks[8] < 24
