# SPDX-License-Identifier: MIT
"""Coefficients follow the gradient of the entropy, which is right to the last digit, and see neither label nor test."""

import dataclasses
import gc
import inspect
import math
import weakref
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import Tensor

from compendium.study import adaptation
from compendium.study.adaptation import Adapted, Settings, Unlabelled, adapt
from compendium.worlds.mini import models
from tsvlib import checkpoints
from tsvlib.errors import InputError
from tsvlib.taskvectors import StateDict, TaskVector

Array = npt.NDArray[np.float64]
N_TASKS, INPUTS, HIDDEN, EMBED = 3, 4, 5, 3
CLASSES = (2, 4, 3)
IMAGES = (10, 7, 16)
SHORT = Settings(steps=5, batch=4)
STILL = Settings(steps=1, learning_rate=0.0)


def encoder(state: StateDict, images: Tensor) -> Tensor:
    """Stand in for an image encoder: two matrices, a bias and a scale, smooth everywhere."""
    hidden = torch.tanh(images @ state["first"].T + state["bias"])
    return torch.nn.functional.normalize(state["scale"] + hidden @ state["second"].T, dim=-1)


def problem(seed: int = 0) -> tuple[StateDict, list[TaskVector], list[Unlabelled]]:
    random = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    def state() -> dict[str, Tensor]:
        return {"first": draw(HIDDEN, INPUTS), "bias": draw(HIDDEN), "second": draw(EMBED, HIDDEN), "scale": draw()}

    parts = [TaskVector(state()) for _ in range(N_TASKS)]
    tasks = [Unlabelled(draw(n, INPUTS), 3 * draw(c, EMBED)) for n, c in zip(IMAGES, CLASSES, strict=True)]
    return state(), parts, tasks


def stacked(parts: list[TaskVector]) -> adaptation.Parts:
    return lambda key: torch.stack([part[key] for part in parts])


def transcribed(base: StateDict, parts: list[TaskVector], tasks: list[Unlabelled], coefficients: Array) -> float:
    """Transcribe the objective in NumPy, one image at a time."""
    state = {
        key: start.numpy() + sum(row[column] * part[key].numpy() for row, part in zip(coefficients, parts, strict=True))
        for column, (key, start) in enumerate(base.items())
    }
    of_tasks = []
    for task in tasks:
        entropies = []
        for image in task.inputs.numpy():
            feature = state["scale"] + state["second"] @ np.tanh(state["first"] @ image + state["bias"])
            powers = np.exp(task.head.numpy() @ (feature / np.linalg.norm(feature)))
            shares = powers / powers.sum()
            entropies.append(-sum(share * math.log(share) for share in shares))
        of_tasks.append(np.mean(entropies))
    return float(np.mean(of_tasks))


@given(st.integers(0, 2**32 - 1))
def test_the_objective_is_the_mean_entropy_over_tasks(seed: int) -> None:
    base, parts, tasks = problem(seed)
    coefficients = torch.randn(N_TASKS, len(base), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = adaptation.entropy(adaptation.weighted(base, stacked(parts), coefficients), tasks, encoder)
    assert float(found) == pytest.approx(transcribed(base, parts, tasks, coefficients.numpy()), rel=1e-12)


def test_entropy_of_known_predictions() -> None:
    sure, open_ = torch.tensor([[50.0], [-50.0]]), torch.zeros(4, 1)
    images = torch.ones(6, 1)
    found = adaptation.entropy({}, [Unlabelled(images, sure), Unlabelled(images, open_)], lambda state, x: x)
    assert float(found) == pytest.approx(math.log(4) / 2)


def test_tasks_weigh_the_same_however_many_images_they_have() -> None:
    base, _, (one, two, _) = problem()
    alone = [float(adaptation.entropy(base, [task], encoder)) for task in (one, two)]
    together = adaptation.entropy(base, [one, two], encoder)
    assert float(together) == pytest.approx(sum(alone) / 2, rel=1e-12)
    doubled = two._replace(inputs=torch.cat([two.inputs, two.inputs]))
    torch.testing.assert_close(adaptation.entropy(base, [one, doubled], encoder), together)


@pytest.mark.parametrize("together", [1, 3, 16, 100])
def test_inputs_that_are_encoded_in_parts_have_the_entropy_of_all_at_once(together: int) -> None:
    base, parts, tasks = problem()
    seen: list[int] = []

    def noted(state: StateDict, images: Tensor) -> Tensor:
        seen.append(len(images))
        return encoder(state, images)

    whole = adaptation.entropy(base, tasks, encoder)
    assert float(adaptation.entropy(base, tasks, noted, together)) == pytest.approx(float(whole), rel=1e-6)
    assert (max(seen), sum(seen)) == (min(together, max(IMAGES)), sum(IMAGES))
    if together >= max(IMAGES):
        assert torch.equal(adaptation.entropy(base, tasks, encoder, together), whole)
    seen.clear()
    arguments = {"start": 0.3, "seed": 0, "settings": Settings(steps=2, batch=1)}
    found = adapt(base, stacked(parts), tasks, noted, **arguments, together=together)  # type: ignore[arg-type]
    assert max(seen) == min(together, max(IMAGES))
    at_once = adapt(base, stacked(parts), tasks, encoder, **arguments)  # type: ignore[arg-type]
    assert (found.before, found.after) == pytest.approx((at_once.before, at_once.after), rel=1e-6)
    assert torch.equal(found.coefficients, at_once.coefficients)


def test_inputs_of_different_tasks_may_have_different_shapes() -> None:
    wide, narrow = (Unlabelled(torch.ones(3, width), torch.zeros(2, 1)) for width in (5, 2))
    found = adaptation.entropy({}, [wide, narrow], lambda state, x: x.sum(1, keepdim=True))
    assert float(found) == pytest.approx(math.log(2))


def test_the_way_back_of_one_task_is_done_before_the_next_one_begins() -> None:
    base, parts, tasks = problem()
    start = torch.full((N_TASKS, len(base)), 0.3, dtype=torch.float64, requires_grad=True)
    held: list[weakref.ref[Tensor]] = []

    def noted(state: StateDict, images: Tensor) -> Tensor:
        gc.collect()
        assert not any(each() is not None for each in held)
        features = encoder(state, images)
        held.append(weakref.ref(features))
        return features

    adaptation.descent(adaptation.weighted(base, stacked(parts), start), start, tasks, noted)
    assert len(held) == N_TASKS


@examples(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_the_gradient_is_that_of_finite_differences(seed: int) -> None:
    base, parts, tasks = problem(seed)
    start = torch.full((N_TASKS, len(base)), 0.3, dtype=torch.float64, requires_grad=True)
    value, gradient = adaptation.descent(adaptation.weighted(base, stacked(parts), start), start, tasks, encoder)
    assert value == pytest.approx(transcribed(base, parts, tasks, start.detach().numpy()), rel=1e-12)
    np.testing.assert_allclose(gradient.numpy(), differences(base, parts, tasks), rtol=1e-4, atol=1e-8)


def differences(base: StateDict, parts: list[TaskVector], tasks: list[Unlabelled], step: float = 1e-5) -> Array:
    """Return the gradient at 0.3 by central differences of the transcribed objective."""
    gradient = np.zeros((N_TASKS, len(base)))
    for place in np.ndindex(*gradient.shape):
        move = np.zeros_like(gradient)
        move[place] = step
        ahead, back = (transcribed(base, parts, tasks, 0.3 + sign * move) for sign in (1, -1))
        gradient[place] = (ahead - back) / (2 * step)
    return gradient


def whole_batches(base: StateDict, parts: list[TaskVector], steps: int) -> tuple[Adapted, list[Unlabelled]]:
    """Adapt with every image in every step, so that no draw matters."""
    tasks = [task._replace(inputs=task.inputs[:7]) for task in problem()[2]]
    settings = Settings(steps=steps, learning_rate=0.01, batch=7)
    return adapt(base, stacked(parts), tasks, encoder, start=0.3, seed=0, settings=settings), tasks


def test_two_steps_are_adams() -> None:
    base, parts, _ = problem()
    once, tasks = whole_batches(base, parts, 1)
    gradient = differences(base, parts, tasks)
    first = 0.3 - 0.01 * gradient / (np.abs(gradient) + 1e-8)
    np.testing.assert_allclose(once.coefficients.numpy(), first, rtol=1e-6)
    twice, _ = whole_batches(base, parts, 2)
    leaf = once.coefficients.clone().requires_grad_()
    (again,) = torch.autograd.grad(
        adaptation.entropy(adaptation.weighted(base, stacked(parts), leaf), tasks, encoder), leaf
    )
    mean = (0.9 * 0.1 * gradient + 0.1 * again.numpy()) / (1 - 0.9**2)
    square = (0.999 * 0.001 * gradient**2 + 0.001 * again.numpy() ** 2) / (1 - 0.999**2)
    second = first - 0.01 * mean / (np.sqrt(square) + 1e-8)
    np.testing.assert_allclose(twice.coefficients.numpy(), second, rtol=1e-5)
    assert twice.curve == pytest.approx([once.before, once.after], rel=1e-12)


@examples(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_a_coefficient_for_a_whole_task_has_the_sum_of_its_tensors_gradients(seed: int) -> None:
    base, parts, tasks = problem(seed)
    start = torch.full((N_TASKS, 1), 0.3, dtype=torch.float64, requires_grad=True)
    value, gradient = adaptation.descent(adaptation.weighted(base, stacked(parts), start), start, tasks, encoder)
    assert value == pytest.approx(transcribed(base, parts, tasks, np.full((N_TASKS, len(base)), 0.3)), rel=1e-12)
    expected = differences(base, parts, tasks).sum(1, keepdims=True)
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-4, atol=1e-8)


def test_a_step_with_a_coefficient_for_each_task_moves_all_of_its_tensors_alike() -> None:
    base, parts, _ = problem()
    tasks = [task._replace(inputs=task.inputs[:7]) for task in problem()[2]]
    settings = Settings(steps=1, learning_rate=0.01, batch=7)
    found = adapt(base, stacked(parts), tasks, encoder, start=0.3, seed=0, settings=settings, taskwise=True)
    slope = differences(base, parts, tasks).sum(1, keepdims=True)
    np.testing.assert_allclose(found.coefficients.numpy(), 0.3 - 0.01 * np.sign(slope), rtol=1e-5)
    for key in base:
        change = sum(found.coefficients[task, 0] * parts[task][key] for task in range(N_TASKS))
        torch.testing.assert_close(found.state[key], base[key] + change)


def binary(images: Tensor) -> list[Unlabelled]:
    return [Unlabelled(images, torch.tensor([[1.0], [-1.0]], dtype=torch.float64))]


def test_entropy_falls_along_its_closed_form() -> None:
    # Two classes with logits ±w: entropy is log(2 cosh w) - w tanh w, which falls as w leaves zero.
    base = {"w": torch.tensor(0.5, dtype=torch.float64)}
    parts = [TaskVector(w=torch.tensor(2.0, dtype=torch.float64))]
    settings = Settings(steps=60, learning_rate=0.01, batch=8)
    images = torch.ones(8, 1, dtype=torch.float64)
    found = adapt(base, stacked(parts), binary(images), lambda s, x: s["w"] * x, start=0.1, seed=0, settings=settings)

    def closed(w: float) -> float:
        return math.log(2 * math.cosh(w)) - w * math.tanh(w)

    assert found.curve == sorted(found.curve, reverse=True)
    assert found.before == pytest.approx(closed(0.5 + 2 * 0.1), rel=1e-12)
    assert found.after == pytest.approx(closed(0.5 + 2 * float(found.coefficients)), rel=1e-12)
    # Adam moves by its rate at most at first, and never much farther.
    assert 0.1 + 60 * 0.01 >= float(found.coefficients) > 0.6


def test_one_part_with_coefficient_one_is_the_expert() -> None:
    base, (part, *_), tasks = problem()
    found = adapt(base, stacked([part]), tasks, encoder, start=1.0, seed=0, settings=STILL)
    expert = part.apply(base)
    assert all(torch.equal(found.state[key], expert[key]) for key in base)
    assert found.before == found.after


def test_before_any_move_the_merge_is_the_sum_at_the_start() -> None:
    base, parts, tasks = problem()
    found = adapt(base, stacked(parts), tasks, encoder, start=0.3, seed=0, settings=STILL)
    summed = (parts[0] + parts[1] + parts[2]).apply(base, 0.3)
    for key in base:
        torch.testing.assert_close(found.state[key], summed[key])


def test_the_state_is_that_of_the_coefficients_and_inputs_stay() -> None:
    base, parts, tasks = problem()
    found = adapt(base, stacked(parts), tasks, encoder, start=0.3, seed=0, settings=SHORT)
    again, again_parts, _ = problem()
    for column, key in enumerate(base):
        change = sum(found.coefficients[task, column] * parts[task][key] for task in range(N_TASKS))
        torch.testing.assert_close(found.state[key], base[key] + change)
        torch.testing.assert_close(found.initial[key], base[key] + 0.3 * sum(part[key] for part in parts))
        assert torch.equal(base[key], again[key])
        assert all(torch.equal(one[key], two[key]) for one, two in zip(parts, again_parts, strict=True))
        assert not found.state[key].requires_grad
    assert len(found.curve) == SHORT.steps


def test_what_no_task_changed_keeps_its_coefficients() -> None:
    base, parts, tasks = problem()
    for part in parts:
        part["bias"].zero_()
    parts[1]["first"].zero_()
    moved = adapt(base, stacked(parts), tasks, encoder, start=0.3, seed=0, settings=SHORT).coefficients != 0.3
    expected = torch.ones(N_TASKS, len(base), dtype=torch.bool)
    expected[:, 1] = expected[1, 0] = False
    assert torch.equal(moved, expected)


def test_the_order_of_tasks_orders_coefficients_and_nothing_else() -> None:
    base, parts, _ = problem()
    found, tasks = whole_batches(base, parts, 5)
    settings = Settings(steps=5, learning_rate=0.01, batch=7)
    turned = adapt(base, stacked(parts[::-1]), tasks[::-1], encoder, start=0.3, seed=0, settings=settings)
    torch.testing.assert_close(turned.coefficients.flip(0), found.coefficients)


@given(n=st.integers(1, 30), batch=st.integers(1, 20), steps=st.integers(1, 12), seed=st.integers(0, 99))
def test_every_image_is_drawn_before_any_is_drawn_again(n: int, batch: int, steps: int, seed: int) -> None:
    drawn = adaptation.draws(n, batch, steps, torch.Generator().manual_seed(seed))
    assert drawn.shape == (steps, batch)
    for whole in torch.split(drawn.flatten(), n):
        assert len(set(whole.tolist())) == len(whole)


def test_each_step_sees_the_images_of_its_draw() -> None:
    base, parts, tasks = problem()
    seen: list[Tensor] = []

    def noted(state: StateDict, images: Tensor) -> Tensor:
        if len(images) == SHORT.batch * N_TASKS:
            seen.append(images)
        return encoder(state, images)

    adapt(base, stacked(parts), tasks, noted, start=0.3, seed=0, settings=SHORT)
    for task, mine in enumerate(zip(*(torch.split(images, SHORT.batch) for images in seen), strict=True)):
        rows = torch.cat(mine)[: len(tasks[task].inputs)]
        assert len(rows.unique(dim=0)) == len(rows)
        assert {tuple(row.tolist()) for row in rows} <= {tuple(row.tolist()) for row in tasks[task].inputs}


def tiny(seed: int = 0) -> tuple[Mapping[str, Tensor], list[TaskVector], list[Unlabelled], adaptation.Encoder]:
    """Return a problem of the smoke profile's model in float32."""
    model = models.load_base("smoke", "smoke-b32")
    base, random = models.encoder_state(model), torch.Generator().manual_seed(seed)
    parts = [
        TaskVector({key: 0.02 * torch.randn(tensor.shape, generator=random) for key, tensor in base.items()})
        for _ in range(2)
    ]
    images = torch.randint(0, 256, (2, 20, 3, 32, 32), generator=random, dtype=torch.uint8)
    heads = [models.zero_shot_head(model, classes, ("a {}",)) for classes in (("black", "blue"), ("a", "clock", "of"))]
    visual = models.with_weights(model, base)
    return (
        base,
        parts,
        [Unlabelled(*task) for task in zip(images, heads, strict=True)],
        lambda state, x: models.features(visual, state, x),
    )


def test_same_seed_same_bytes_and_another_seed_other_draws() -> None:
    digests = []
    for seed in (0, 0, 1):
        base, parts, tasks, encode = tiny()
        found = adapt(base, stacked(parts), tasks, encode, start=0.3, seed=seed, settings=SHORT)
        digests.append(checkpoints.state_digest({"c": found.coefficients} | found.state))
    assert digests[0] == digests[1] != digests[2]


def test_neither_random_state_nor_gradient_mode_is_touched() -> None:
    base, parts, tasks, encode = tiny()
    before = torch.random.get_rng_state()
    adapt(base, stacked(parts), tasks, encode, start=0.3, seed=0, settings=SHORT)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.is_grad_enabled()


def test_a_real_encoder_becomes_more_certain() -> None:
    base, parts, tasks, encode = tiny()
    settings = Settings(steps=20, learning_rate=0.05, batch=20)
    found = adapt(base, stacked(parts), tasks, encode, start=0.3, seed=0, settings=settings)
    assert found.after < found.before
    assert found.before == pytest.approx(found.curve[0], rel=1e-5)


def test_there_is_no_place_for_labels() -> None:
    assert Unlabelled._fields == ("inputs", "head")
    assert not [name for name in inspect.signature(adapt).parameters if "label" in name]


def test_the_protocol_is_the_default() -> None:
    assert dataclasses.asdict(adaptation.PROTOCOL) == {"steps": 50, "learning_rate": 0.005, "batch": 16}


def test_divergence_is_told() -> None:
    base, parts, tasks = problem()
    endless = dataclasses.replace(SHORT, learning_rate=math.inf)
    with pytest.raises(InputError, match="adaptation diverged"):
        adapt(base, stacked(parts), tasks, encoder, start=0.3, seed=0, settings=endless)


@pytest.mark.parametrize("change", [{"steps": 0}, {"batch": 0}, {"learning_rate": -1e-9}, {"learning_rate": math.nan}])
def test_what_cannot_be_done_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match="cannot take Settings"):
        Settings(**change)  # type: ignore[arg-type]
