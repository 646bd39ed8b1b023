# SPDX-License-Identifier: MIT
"""Fine-tuning of the layers of a sentence encoder against a frozen zero-shot head."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from compendium.profiles import Finetuning
from compendium.worlds import finetuning
from compendium.worlds.minilm import encoder


def finetune(
    base: encoder.BertModel,
    head: Float[Tensor, "classes embed"],
    tokens: Int64[Tensor, "n tokens"],
    labels: Int64[Tensor, " n"],
    settings: Finetuning,
    seed: int,
) -> dict[str, Tensor]:
    """Return the layers of an encoder after training on one task; embeddings and the head stay frozen.

    Training that diverges is an InputError.
    """
    model = encoder.with_weights(base, encoder.encoder_state(base))
    model.encoder.requires_grad_(True)

    def loss(chosen: Int64[Tensor, " batch"], _: torch.Generator) -> Float[Tensor, ""]:
        return torch.nn.functional.cross_entropy(encoder.embed(model, tokens[chosen]) @ head.T, labels[chosen])

    finetuning.finetune(model, loss, len(labels), settings, seed)
    return encoder.encoder_state(model)
