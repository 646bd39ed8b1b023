# SPDX-License-Identifier: MIT
"""Sentence encoders through transformers: word pieces, creation, embeddings. The only module that imports it."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from tokenizers.implementations import BertWordPieceTokenizer
from torch import Tensor
from transformers import BertConfig
from transformers import BertModel as BertModel

from compendium import profiles, provenance
from compendium.worlds.minilm import weights
from tsvlib.errors import InputError

MOST_TOKENS = 48
"""Word pieces of a text that are read, with the signs for its beginning and its end."""

PAD = 0
UNTRAINED_SEED = 0
TOGETHER = 8
"""Texts of about the same length that go through a model at once: more are padded more, and take longer in training."""

TEMPERATURE = 20.0
"""By which cosines are multiplied to make logits, as the authors of the models did in training."""


def vocabulary_file() -> Path:
    """Return the list of word pieces that both backbones share, one a line; it is that of BERT, uncased."""
    return profiles.folder("minilm") / "vocabulary.txt"


def config_file(profile: str, backbone: str) -> Path:
    """Return the JSON file that describes a backbone to transformers."""
    return profiles.folder(profile) / "models" / f"{backbone}.json"


def load_base(profile: str, backbone: str) -> BertModel:
    """Return the encoder that experts start from, in float32, frozen and in evaluation mode.

    It has the pretrained weights or, in a profile that is not pretrained, random ones from a fixed seed. A missing
    configuration and missing or other weights are InputErrors.
    """
    config = config_file(profile, backbone)
    if not config.is_file():
        raise InputError(f"{config}: there is no such model configuration; correct the backbone's name.")
    settings = BertConfig(**json.loads(provenance.read(config)), attn_implementation="sdpa")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEED)
        model = BertModel(settings, add_pooling_layer=False)
    if profiles.load(profile).pretrained:
        found = weights.load(backbone)
        try:
            model.load_state_dict({key: found[key] for key in model.state_dict()})
        except (KeyError, RuntimeError) as error:
            raise InputError(f"{weights.find(backbone)}: does not fit {config}; restore that from git.") from error
    return model.eval().requires_grad_(False)


@cache
def _tokenizer() -> BertWordPieceTokenizer:
    provenance.note(vocabulary_file())
    tokenizer = BertWordPieceTokenizer(str(vocabulary_file()), lowercase=True)
    tokenizer.enable_truncation(MOST_TOKENS)
    tokenizer.enable_padding(pad_id=PAD)
    return tokenizer


def tokenize(texts: Sequence[str]) -> Int64[Tensor, "n tokens"]:
    """Return one row of numbers of word pieces per text: start, pieces, end, padding up to the longest row."""
    return torch.tensor([row.ids for row in _tokenizer().encode_batch(list(texts))])


def encoder_state(model: BertModel) -> dict[str, Tensor]:
    """Return copies of the parameters of all layers (``encoder.*``); embeddings of word pieces are no part of these."""
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items() if key.startswith("encoder.")}


def with_weights(model: BertModel, state: Mapping[str, Tensor]) -> BertModel:
    """Return an encoder with other weights in its layers (``encoder.*``) that shares all else with ``model``.

    RuntimeError when ``state`` does not name exactly the parameters of the layers.
    """
    other = copy.deepcopy(model, {id(model.embeddings): model.embeddings})
    other.encoder.load_state_dict({key.removeprefix("encoder."): tensor for key, tensor in state.items()})
    return other


def features(
    model: BertModel, state: Mapping[str, Tensor], tokens: Int64[Tensor, "n tokens"]
) -> Float[Tensor, "n embed"]:
    """Return the embeddings that an encoder gives with the weights ``state`` (names ``encoder.*``) in its layers.

    They can be differentiated with respect to the weights. The encoder keeps its own, but no two threads may share it.
    """
    return embed(lambda **words: torch.func.functional_call(model, dict(state), kwargs=words), tokens)


def embed(model: Callable[..., Any], tokens: Int64[Tensor, "n tokens"]) -> Float[Tensor, "n embed"]:
    """Return the mean of the last layer over the word pieces of each text, normalised, as the models are meant.

    Texts of about the same length go together, as padding costs time.
    """
    order = (tokens != PAD).sum(1).argsort(stable=True)
    found = torch.cat([_embed_together(model, tokens[chosen]) for chosen in torch.split(order, TOGETHER)])
    return found[order.argsort()]


def encode(model: BertModel, tokens: Int64[Tensor, "n tokens"]) -> Float[Tensor, "n embed"]:
    """Return the same without a graph."""
    with torch.inference_mode():
        return embed(model, tokens)


def zero_shot_head(model: BertModel, descriptions: Sequence[str]) -> Float[Tensor, "classes embed"]:
    """Return the frozen classifier that the model itself makes of what classes are called in plain words."""
    with torch.no_grad():
        return TEMPERATURE * embed(model, tokenize(descriptions))


def _embed_together(model: Callable[..., Any], tokens: Int64[Tensor, "n tokens"]) -> Float[Tensor, "n embed"]:
    read = tokens[:, : int((tokens != PAD).sum(1).max())]
    seen = read != PAD
    hidden: Float[Tensor, "n read embed"] = model(input_ids=read, attention_mask=seen).last_hidden_state
    kept = seen[:, :, None].to(hidden.dtype)
    return torch.nn.functional.normalize((hidden * kept).sum(1) / kept.sum(1), dim=-1)
