# SPDX-License-Identifier: MIT
"""ESM is what its authors' code does where that is defined, and keeps to what there is where it is not."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import oracles
import pytest
import torch
from torch import Tensor

from tsvlib import devices, merging
from tsvlib.errors import InputError
from tsvlib.methods import named
from tsvlib.methods.esm import esm
from tsvlib.suites import MemorySuite

Array = npt.NDArray[np.float64]
States = list[dict[str, Tensor]]


def merged(
    vectors: Sequence[Mapping[str, Tensor]], inputs: Sequence[Mapping[str, Tensor]], workers: int = 1
) -> dict[str, Tensor]:
    suite, keys = MemorySuite(vectors), list(vectors[0])
    function = esm(inputs)(suite)
    found = devices.ordered(lambda key: merging.update(function, suite, key), keys, workers)
    return dict(zip(keys, found, strict=True))


def drawn(shapes: Mapping[str, tuple[int, int]], n_tasks: int, samples: int) -> tuple[States, States]:
    """Return task matrices of different sizes, and inputs that are larger along some axes than along others."""
    vectors = oracles.task_vectors(shapes, n_tasks, 0, torch.float32)
    vectors = [
        {key: (1 + task) * 1e-3 * tensor for key, tensor in vector.items()} for task, vector in enumerate(vectors)
    ]
    sizes = {key: (samples, columns) for key, (_, columns) in shapes.items()}
    drawn = oracles.task_vectors(sizes, n_tasks, 1, torch.float32)
    return vectors, [
        {key: tensor * torch.linspace(1, 2, tensor.shape[1]) for key, tensor in each.items()} for each in drawn
    ]


def polar(x: Array) -> Array:
    u, s, vh = np.linalg.svd(x, full_matrices=False)
    found: Array = u @ vh * s.mean()
    return found


def essential(deltas: Sequence[Array], inputs: Sequence[Array]) -> Array:
    """Transcribe the merge of one layer, of as many samples as outputs or more."""
    k = deltas[0].shape[0] // len(deltas)
    u_blocks, v_blocks, norms = [], [], []
    for delta, x in zip(deltas, inputs, strict=True):
        _, s, ph = np.linalg.svd(x @ delta.T, full_matrices=False)
        values = s**2 / (len(x) - 1)
        v = ph @ delta
        norms.append(np.linalg.norm(v))
        v = v * norms[-1] ** 2
        e = (values[:k] / values[:k].mean()) ** 0.15
        e = e / e.mean()
        u_blocks.append(ph.T[:, :k] * e)
        v_blocks.append(v[:k] * e[:, None])
    u, v = np.hstack(u_blocks), np.vstack(v_blocks) / np.mean(norms) ** 2
    columns = np.linalg.norm(v, axis=0)
    v = v * (columns / columns.mean()) ** 2
    found: Array = polar(u) @ polar(v) * 2
    return found


def close(found: Tensor, expected: Array | Tensor, tolerance: float = 1e-5) -> bool:
    wanted = np.asarray(expected, dtype=np.float64)
    return bool(np.linalg.norm(found.double().numpy() - wanted) <= tolerance * np.linalg.norm(wanted))


@pytest.mark.parametrize("shape", [(13, 6), (6, 13), (9, 9)])
@pytest.mark.parametrize("n_tasks", [2, 3, 4])
def test_a_layer_is_merged_as_the_authors_do(shape: tuple[int, int], n_tasks: int) -> None:
    vectors, inputs = drawn({"w": shape}, n_tasks, 20)
    expected = essential([v["w"].double().numpy() for v in vectors], [x["w"].double().numpy() for x in inputs])
    assert close(merged(vectors, inputs)["w"], expected)


def test_layers_are_weighed_against_the_same_layer_of_other_blocks() -> None:
    shapes = {f"blocks.{block}.mlp.{part}.weight": (8, 6) for block in range(3) for part in (0, 2)}
    vectors, inputs = drawn(shapes, 2, 20)
    for vector in vectors:
        vector["blocks.1.mlp.0.weight"] *= 3
    found = merged(vectors, inputs, workers=2)
    for part in (0, 2):
        keys = [f"blocks.{block}.mlp.{part}.weight" for block in range(3)]
        plain = {
            key: essential([v[key].double().numpy() for v in vectors], [x[key].double().numpy() for x in inputs])
            for key in keys
        }
        mean = np.mean([np.linalg.norm(each) for each in plain.values()])
        for key in keys:
            assert close(found[key], plain[key] * (np.linalg.norm(plain[key]) / mean) ** 2)


def test_what_has_no_inputs_is_merged_by_tsv_m_or_averaged() -> None:
    vectors, inputs = drawn({"w": (6, 4), "out.weight": (6, 5), "narrow": (1, 5)}, 2, 9)
    for vector in vectors:
        vector["bias"] = torch.randn(3)
    found = merged(vectors, [{"w": x["w"], "narrow": x["narrow"]} for x in inputs])
    suite = MemorySuite(vectors)
    by_tsv_m = merging.update(named("tsv_m").bind(suite), suite, "out.weight")
    assert close(found["out.weight"], by_tsv_m, 1e-6)
    for key in ("bias", "narrow"):
        torch.testing.assert_close(found[key], (vectors[0][key] + vectors[1][key]) / 2)


def test_an_expert_that_changed_nothing_takes_only_its_share_of_components() -> None:
    vectors, inputs = drawn({"w": (9, 6)}, 3, 12)
    vectors[1]["w"].zero_()
    found = merged(vectors, inputs)["w"]
    assert found.isfinite().all()
    assert int(torch.linalg.matrix_rank(found, rtol=1e-4)) == 6
    assert not merged([{"w": torch.zeros(9, 6)}] * 3, inputs)["w"].any()


def test_few_samples_span_few_directions_and_none_is_made_up() -> None:
    vectors, inputs = drawn({"w": (12, 10)}, 3, 2)
    found = merged(vectors, inputs)["w"].double()
    shifts = torch.cat([x["w"].double() @ v["w"].double().T for v, x in zip(vectors, inputs, strict=True)])
    assert int(torch.linalg.matrix_rank(found, rtol=1e-4)) == 6
    # All that it moves outputs by is among what the tasks' own samples show.
    basis = torch.linalg.svd(shifts, full_matrices=False).Vh
    assert (found - basis.T @ (basis @ found)).norm() <= 1e-5 * found.norm()


def test_order_and_scale() -> None:
    vectors, inputs = drawn({"w": (9, 7)}, 3, 12)
    found = merged(vectors, inputs)["w"]
    order = [2, 0, 1]
    assert close(merged([vectors[task] for task in order], [inputs[task] for task in order])["w"], found)
    for scale in (1e-30, 1e30):
        larger = merged([{"w": scale * v["w"]} for v in vectors], [{"w": x["w"] / scale} for x in inputs])
        assert close(larger["w"] / scale, found, 1e-4)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([{}, {}], "no matrix of inputs of any tensor"),
        ([{"w": torch.ones(5, 3)}, {}], "no matrix of inputs of `w` of expert 2; give it for all or none"),
        ([{"w": torch.ones(5, 4)}] * 2, r"`w` of expert 1 has shape \(5, 4\) instead of \(5, 3\)"),
        ([{"w": torch.ones(5, 2, 3)}] * 2, "`w` of expert 1 has no two dimensions"),
        ([{"w": torch.full((5, 3), torch.nan)}] * 2, "`w` of expert 1 holds NaN"),
        ([{"w": torch.zeros(5, 3)}] * 2, "`w` of expert 1 shows nothing of its change"),
    ],
)
def test_inputs_that_are_missing_or_unfit_are_told(inputs: States, message: str) -> None:
    with pytest.raises(InputError, match=message):
        merged([{"w": torch.ones(4, 3)}] * 2, inputs)
