# SPDX-License-Identifier: MIT
"""Statistics of experts are those of their definitions, and see no label."""

import inspect

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from compendium.study import statistics
from compendium.study.adaptation import Unlabelled
from tsvlib import merging
from tsvlib.methods import MEASURED
from tsvlib.suites import MemorySuite
from tsvlib.taskvectors import StateDict, TaskVector

Array = npt.NDArray[np.float64]
INPUTS, EMBED, CLASSES, N = 5, 4, 3, 40


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def encoder(state: StateDict, x: Tensor) -> Tensor:
    return torch.nn.functional.linear(x, state["w"], state["b"])


STATE = {"w": drawn(EMBED, INPUTS), "b": drawn(EMBED, seed=1), "unused": drawn(2, seed=2)}
TASK = Unlabelled(drawn(N, INPUTS, seed=3), drawn(CLASSES, EMBED, seed=4))


def probabilities(x: Array) -> Array:
    logits = TASK.head.double().numpy() @ (STATE["w"].double().numpy() @ x + STATE["b"].double().numpy())
    powers = np.exp(logits - logits.max())
    found: Array = powers / powers.sum()
    return found


def squared_slopes(x: Array, label: int) -> tuple[Array, Array]:
    """Return the squared gradients of log p(label): by hand, head.T (one - p) and its outer product with x."""
    slope = TASK.head.double().numpy().T @ (np.eye(CLASSES)[label] - probabilities(x))
    return np.outer(slope, x) ** 2, slope**2


def test_fisher_is_the_mean_squared_gradient_over_labels_that_the_model_draws() -> None:
    found = statistics.fisher(encoder, STATE, TASK, seed=0)
    assert set(found) == {"w", "b"}
    # Which labels were drawn follows from the generator alone.
    generator, sums = torch.Generator().manual_seed(0), [np.zeros((EMBED, INPUTS)), np.zeros(EMBED)]
    for x in TASK.inputs:
        chances = torch.from_numpy(probabilities(x.double().numpy())).float()
        label = int(torch.multinomial(chances, 1, generator=generator))
        for total, mine in zip(sums, squared_slopes(x.double().numpy(), label), strict=True):
            total += mine
    np.testing.assert_allclose(found["w"].numpy(), sums[0] / N, rtol=1e-4)
    np.testing.assert_allclose(found["b"].numpy(), sums[1] / N, rtol=1e-4)


def test_fisher_of_many_draws_is_the_expectation_over_the_models_own_labels() -> None:
    x = TASK.inputs[:1]
    many = statistics.fisher(encoder, STATE, TASK._replace(inputs=x.expand(3000, -1)), seed=1)
    row = x[0].double().numpy()
    chances = probabilities(row)
    expected = sum(chances[label] * squared_slopes(row, label)[0] for label in range(CLASSES))
    np.testing.assert_allclose(many["w"].numpy(), expected, rtol=0.2)


def test_another_seed_draws_other_labels_and_the_same_one_the_same() -> None:
    first, again, other = (statistics.fisher(encoder, STATE, TASK, seed)["w"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_gram_matrices_are_means_over_rows() -> None:
    (gram,) = statistics.grams(encoder, STATE, TASK).values()
    x = TASK.inputs.double().numpy()
    np.testing.assert_allclose(gram.numpy(), x.T @ x / N, rtol=1e-5)
    twice = statistics.grams(encoder, STATE, TASK._replace(inputs=TASK.inputs.repeat(2, 1)))["w"]
    torch.testing.assert_close(twice, gram)


@pytest.mark.parametrize("n", [INPUTS - 2, INPUTS, N])
def test_inputs_have_their_gram_matrix_in_no_more_rows_than_columns(n: int) -> None:
    x = TASK.inputs[:n]
    (kept,) = statistics.inputs(encoder, STATE, TASK._replace(inputs=x)).values()
    assert kept.shape == (min(n, INPUTS), INPUTS)
    torch.testing.assert_close(kept.mT @ kept, x.mT @ x)
    assert n > INPUTS or torch.equal(kept, x)


def test_there_is_no_place_for_labels() -> None:
    for function in (statistics.measure, statistics.fisher, statistics.grams, statistics.inputs):
        assert inspect.signature(function).parameters["task"].annotation is Unlabelled


@pytest.mark.parametrize("name", [name for name, row in MEASURED.items() if row.quantity in statistics.COUNTS])
def test_methods_merge_by_what_is_measured(name: str) -> None:
    row = MEASURED[name]
    vectors = [TaskVector({key: 0.1 * drawn(*each.shape, seed=n) for key, each in STATE.items()}) for n in (5, 6)]
    experts = [vector.apply(STATE) for vector in vectors]
    tasks = [TASK._replace(inputs=drawn(N, INPUTS, seed=n)) for n in (7, 8)]
    # What no input reaches, nobody changes.
    for vector in vectors:
        vector["unused"].zero_()
    found = [statistics.measure(row.quantity, encoder, *pair, 0) for pair in zip(experts, tasks, strict=True)]
    update = merging.merged_update(MemorySuite(vectors), row.by(found))
    assert all(update[key].isfinite().all() for key in update)
    assert update["w"].any()


def test_regmean_of_experts_with_inputs_of_their_own_does_what_each_of_them_does() -> None:
    # Inputs of the two tasks lie in orthogonal spaces, so one matrix can serve both.
    own = [torch.eye(INPUTS)[:2], torch.eye(INPUTS)[2:]]
    vectors = [TaskVector(w=drawn(EMBED, INPUTS, seed=n), b=torch.zeros(EMBED)) for n in (5, 6)]
    found = [
        statistics.measure("gram", encoder, STATE, TASK._replace(inputs=drawn(N, len(span), seed=9) @ span), 0)
        for span in own
    ]
    merged = merging.merged_update(vectors, MEASURED["regmean"].by(found))
    for span, vector in zip(own, vectors, strict=True):
        torch.testing.assert_close(merged["w"] @ span.T, vector["w"] @ span.T, rtol=1e-3, atol=1e-3)
