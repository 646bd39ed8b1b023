# SPDX-License-Identifier: MIT
"""The image encoder of a published CLIP as studies ask for it: on the CPU, or on a GPU where there is one."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from compendium.worlds.clip import images, layouts, models, precision
from compendium.worlds.protocol import Features
from tsvlib import checkpoints
from tsvlib.taskvectors import StateDict

ON_A_CPU = 64
ON_A_GPU: Mapping[str, int] = {"ViT-B-32": 512, "ViT-B-16": 128}
"""Images to encode at once, by backbone, so that these take some 3 GB in float32; others take as many as a CPU."""


class Encoder:
    """The image encoder of a backbone, in the layout of whoever published its experts.

    Weights and images come from the CPU and features go back there. Predictions on a GPU, or in another type, have
    another ``digest``, so that they are never taken for those of a CPU.
    """

    def __init__(
        self,
        backbone: str,
        projection: Float[Tensor, "embed width"] | None,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.backbone, self.projection = backbone, projection
        self.device, self.dtype, self.batch = device, dtype, together(backbone, device)
        kept = {} if projection is None else {"projection": projection}
        how = "" if device.type == "cpu" else f" {device.type} {str(dtype).removeprefix('torch.')}"
        self.digest = f"{backbone} quickgelu {checkpoints.state_digest(kept)}{how}"

    def features(self, state: StateDict) -> Features:
        """Return what encodes images with these weights."""
        visual = models.image_encoder(self.backbone, self._whole(state)).to(self.device)

        def encode(pixels: UInt8[Tensor, "n 3 size size"]) -> Float[Tensor, "n embed"]:
            with torch.inference_mode(), precision.computing(self.device, self.dtype):
                return models.encode(visual, pixels).cpu()

        return encode

    def differentiable(self) -> Callable[[StateDict, Tensor], Float[Tensor, "n embed"]]:
        """Return what encodes images with given weights and keeps a graph for these, in float32."""
        visual = models.empty_encoder(self.backbone)

        def encode(state: StateDict, pixels: UInt8[Tensor, "n 3 size size"]) -> Float[Tensor, "n embed"]:
            weights = {key.removeprefix("visual."): each.to(self.device) for key, each in self._whole(state).items()}
            with precision.computing(self.device, torch.float32):
                found: Tensor = torch.func.functional_call(visual, weights, (images.normalise(pixels, self.device),))
            return torch.nn.functional.normalize(found, dim=-1).cpu()

        return encode

    def _whole(self, state: StateDict) -> StateDict:
        return state if self.projection is None else layouts.fused(state, self.projection)


def together(backbone: str, device: torch.device) -> int:
    """Return how many images a device encodes at once."""
    return ON_A_CPU if device.type == "cpu" else ON_A_GPU.get(backbone, ON_A_CPU)
