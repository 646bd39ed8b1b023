# SPDX-License-Identifier: MIT
"""Half the bits are used only where they change hardly a prediction, and what they predict is kept apart."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from compendium.worlds.clip import encoder, images, layouts, models, precision
from compendium.worlds.clip.encoder import Encoder
from compendium.worlds.clip.sources.fusionbench import FusionBench
from tsvlib import checkpoints

from . import real_checkpoints

CPU, HALF = torch.device("cpu"), torch.bfloat16
BACKBONE = "ViT-B-32"
HEAD = torch.eye(2)


@pytest.fixture(autouse=True)
def described(tmp_path: Path) -> Iterator[None]:
    with real_checkpoints.tiny_backbones(tmp_path / "described"):
        yield


def flipping(share: int) -> Callable[[Tensor], Tensor]:
    """Return an encoder that sees another class in the first ``share`` inputs where half the bits are used."""

    def encode(inputs: Tensor) -> Tensor:
        classes = torch.zeros(len(inputs), dtype=torch.int64)
        if torch.is_autocast_enabled("cpu"):
            assert torch.get_autocast_dtype("cpu") == HALF
            classes[:share] = 1
        return HEAD[classes]

    return encode


@pytest.mark.parametrize(
    ("n", "flips", "is_half"),
    [(512, 0, True), (512, 1, True), (512, 2, False), (500, 1, True), (499, 1, False), (20, 0, True), (9000, 1, True)],
)
def test_half_the_bits_are_used_where_one_prediction_in_500_differs_at_most(n: int, flips: int, is_half: bool) -> None:
    found = precision.chosen(flipping(flips), torch.zeros(n, 3), HEAD, CPU, n, HALF)
    assert found == (HALF if is_half else torch.float32)


def test_the_first_512_images_are_looked_at_and_twice() -> None:
    seen: list[tuple[int, bool]] = []

    def encode(inputs: Tensor) -> Tensor:
        seen.append((len(inputs), torch.is_autocast_enabled("cpu")))
        return HEAD[torch.zeros(len(inputs), dtype=torch.int64)]

    precision.chosen(encode, torch.zeros(600, 3), HEAD, CPU, 300, HALF)
    assert seen == [(300, False), (212, False), (300, True), (212, True)]


def test_a_real_encoder_computes_in_half_the_bits_when_told() -> None:
    shown = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    state = real_checkpoints.encoder(BACKBONE, None)
    plain, half = (Encoder(BACKBONE, None, CPU, dtype).features(state)(shown) for dtype in (torch.float32, HALF))
    assert half.dtype == torch.float32
    assert not plain.equal(half)
    torch.testing.assert_close(plain, half, rtol=0, atol=0.05)
    with precision.computing(CPU, HALF):
        whole = Encoder(BACKBONE, None, CPU).features(state)(shown)
    assert whole.equal(half)


def test_digests_keep_devices_and_types_apart_and_the_cpus_is_what_it_was() -> None:
    digests = [
        Encoder(BACKBONE, None, torch.device(device), dtype).digest
        for device, dtype in (("cpu", torch.float32), ("cuda", torch.float32), ("cuda", torch.float16))
    ]
    assert digests[0] == f"{BACKBONE} quickgelu {checkpoints.state_digest({})}"
    assert digests[1:] == [f"{digests[0]} cuda float32", f"{digests[0]} cuda float16"]


def test_a_gpu_encodes_fewer_images_at_once_where_they_take_more_memory() -> None:
    cuda = torch.device("cuda")
    backbones = ("ViT-B-32", "ViT-B-16", "ViT-L-14")
    assert [encoder.together(backbone, cuda) for backbone in backbones] == [512, 128, 64]
    assert [encoder.together(backbone, CPU) for backbone in backbones] == [64, 64, 64]
    assert Encoder(BACKBONE, None, cuda).batch == 512


@pytest.mark.parametrize("layout", ["open_clip", "transformers"])
def test_both_ways_of_encoding_agree_and_one_keeps_a_graph(layout: str, tmp_path: Path) -> None:
    state, projection = real_checkpoints.encoder(BACKBONE, "Cars"), None
    if layout == "transformers":
        real_checkpoints.write_fusion_bench(tmp_path, BACKBONE, ["Cars"])
        projection = FusionBench().projection(tmp_path, BACKBONE)
        state = layouts.split(state)
    ours = Encoder(BACKBONE, projection, CPU)
    shown = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    plain = ours.features(state)(shown)
    factor = torch.ones((), requires_grad=True)
    found = ours.differentiable()({key: factor * tensor for key, tensor in state.items()}, shown)
    torch.testing.assert_close(found, plain)
    torch.autograd.backward(found[0, 0])
    assert factor.grad is not None
    assert factor.grad.abs() > 0
    whole = state if projection is None else layouts.fused(state, projection)
    theirs = real_checkpoints.features(BACKBONE, whole, images.normalise(shown))
    torch.testing.assert_close(plain, torch.nn.functional.normalize(theirs, dim=-1))
    assert models.image_size(BACKBONE) == 32
