# SPDX-License-Identifier: MIT
"""TSV-C files of every version are read: one of each lies beside these tests, made when it was the latest."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tsvlib import checkpoints, compression
from tsvlib.cli import workflows
from tsvlib.cli.workflows import Inputs, Session
from tsvlib.errors import InputError
from tsvlib.linalg import Factors

FILES = Path(__file__).parent.parent / "tsv_c"
BASE = FILES / "base.safetensors"
VERSIONS = range(1, compression.VERSION + 1)


def file(version: int) -> Path:
    return FILES / f"version{version}.safetensors"


def notes(path: Path) -> dict[str, object]:
    with safe_open(path, framework="pt") as opened:
        found: dict[str, object] = json.loads(opened.metadata()["tsv-c"])
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_a_file_of_each_version_is_read_by_its_definition(tmp_path: Path, version: int) -> None:
    assert notes(file(version))["version"] == version
    out = tmp_path / "e.safetensors"
    workflows.expand(Inputs(BASE, []), file(version), out, 0.5, Session())
    base, packed, found = load_file(BASE), load_file(file(version)), load_file(out)
    assert found.keys() == base.keys()
    for key, start in base.items():
        stems = [key] if f"{key}:u" in packed else [f"{key}:{part}" for part in range(3) if f"{key}:{part}:u" in packed]
        factors = [Factors(*(packed[f"{stem}:{name}"].double() for name in ("u", "s", "vh"))) for stem in stems]
        change = torch.cat([each.product() for each in factors]) if factors else packed.get(key, torch.zeros(()))
        if change.any():
            torch.testing.assert_close(found[key], (start + 0.5 * change).to(start.dtype))
        else:
            assert torch.equal(found[key], start)
    assert sum(key.endswith(":u") for key in packed) == 4


def test_the_newest_version_is_what_is_written(tmp_path: Path) -> None:
    expert = {key: tensor + 1 if tensor.is_floating_point() else tensor for key, tensor in load_file(BASE).items()}
    save_file(expert, tmp_path / "expert.safetensors")
    inputs, out = Inputs(BASE, [tmp_path / "expert.safetensors"]), tmp_path / "f.safetensors"
    workflows.compress(inputs, out, "1/2", "float32", Session())
    assert notes(out) == {
        "version": compression.VERSION,
        "base": checkpoints.state_digest(load_file(BASE)),
        "shapes": {key: list(tensor.shape) for key, tensor in load_file(BASE).items()},
    }


def saved_again(folder: Path, how: str) -> Path:
    """Save the base with other metadata, by torch, or in shards."""
    state = load_file(BASE)
    if how == "metadata":
        save_file(state, folder / "again.safetensors", metadata={"format": "pt"})
        return folder / "again.safetensors"
    if how == "torch":
        torch.save(dict(reversed(state.items())), folder / "again.pt")
        return folder / "again.pt"
    homes = {key: f"model-{number % 2}.safetensors" for number, key in enumerate(state)}
    for name in set(homes.values()):
        save_file({key: state[key] for key in state if homes[key] == name}, folder / name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
    return folder


@pytest.mark.parametrize("how", ["metadata", "torch", "shards"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_base_is_known_by_its_tensors_since_version_2(tmp_path: Path, how: str, version: int) -> None:
    (tmp_path / "base").mkdir()
    base, out = saved_again(tmp_path / "base", how), tmp_path / "e.safetensors"
    if version == 1:
        with pytest.raises(InputError, match="it was compressed from another base than"):
            workflows.expand(Inputs(base, []), file(version), out, 1.0, Session())
        return
    workflows.expand(Inputs(base, []), file(version), out, 1.0, Session())
    expected = tmp_path / "expected.safetensors"
    workflows.expand(Inputs(BASE, []), file(version), expected, 1.0, Session())
    assert all(torch.equal(tensor, load_file(expected)[key]) for key, tensor in load_file(out).items())


@pytest.mark.parametrize("version", VERSIONS)
def test_another_base_is_refused(tmp_path: Path, version: int) -> None:
    other = load_file(BASE)
    other["logit_scale"] += 1e-6
    save_file(other, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="it was compressed from another base than"):
        workflows.expand(
            Inputs(tmp_path / "other.safetensors", []), file(version), tmp_path / "e.safetensors", 1.0, Session()
        )


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "",
        "{",
        "[]",
        '{"version": 3, "base": "0", "shapes": {}}',
        '{"version": 2, "shapes": {}}',
        '{"version": 2, "base": "0", "shapes": []}',
        '{"version": 2, "base": "0", "shapes": {"w": ["a"]}}',
    ],
)
def test_what_is_no_file_of_a_known_version_is_refused(tmp_path: Path, entry: str | None) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file(load_file(BASE), foreign, metadata=None if entry is None else {"tsv-c": entry})
    with pytest.raises(InputError, match="this is no TSV-C file of a version that is known here; make it with"):
        workflows.expand(Inputs(BASE, []), foreign, tmp_path / "e.safetensors", 1.0, Session())
