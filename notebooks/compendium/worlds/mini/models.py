# SPDX-License-Identifier: MIT
"""CLIP models through open_clip: creation, texts, images, zero-shot heads. The only module that imports it."""

import copy
import functools
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from tqdm import TqdmWarning

with warnings.catch_warnings():
    # Below it, bars of downloads ask for widgets; in JupyterLab that would be the first thing that a reader sees.
    warnings.simplefilter("ignore", TqdmWarning)
    import open_clip
    from open_clip.model import CLIP as CLIP
    from open_clip.transformer import ResidualAttentionBlock
    from open_clip.transformer import VisionTransformer as VisionTransformer

from compendium import profiles, provenance
from tsvlib import checkpoints
from tsvlib.errors import InputError

IMAGE_MEAN = 0.5
IMAGE_STD = 0.25
VOCABULARY_SIZE = 1024
CONTEXT_LENGTH = 16
PAD, START, FIRST_WORD, END = 0, 1, 2, VOCABULARY_SIZE - 1
UNTRAINED_SEED = 0
BATCH = 64
"""Images to encode at once: more do not fit the processor's caches and take longer."""


class ClassTokenBlock(ResidualAttentionBlock):  # type: ignore[misc]
    """The last block of an image encoder, worked out for the class token alone, since nothing else of it is read.

    The class token still attends to every patch, so the features are those of the whole block.
    """

    def forward(
        self, x: Float[Tensor, "n tokens width"], attn_mask: Tensor | None = None
    ) -> Float[Tensor, "n 1 width"]:
        """Return the class token after this block."""
        inner = self.ln_1(x)
        token: Tensor = x[:, :1] + self.ls_1(self.attention(inner[:, :1], inner, inner, attn_mask))
        done: Tensor = token + self.ls_2(self.mlp(self.ln_2(token)))
        return done


def vocabulary_file() -> Path:
    """Return the word list that every profile's text tower shares, one word a line."""
    return profiles.folder("mini") / "vocabulary.txt"


def weights_file(profile: str, backbone: str) -> Path:
    """Return where the pretrained weights of a backbone are kept (a profile of random models has none)."""
    return profiles.folder(profile) / "weights" / f"{backbone}.safetensors"


def config_file(profile: str, backbone: str) -> Path:
    """Return the JSON file that describes a backbone to open_clip."""
    return profiles.folder(profile) / "models" / f"{backbone}.json"


def create(profile: str, backbone: str, seed: int) -> CLIP:
    """Return a CLIP with the backbone's configuration and random weights that depend on ``seed`` alone."""
    config = config_file(profile, backbone)
    if not config.is_file():
        raise InputError(f"{config}: there is no such model configuration; correct the backbone's name.")
    provenance.note(config)
    if backbone not in open_clip.list_models():
        open_clip.add_model_config(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(**open_clip.get_model_config(backbone)).eval()
    # The same parameters under the same names: only the way through the block is shorter.
    model.visual.transformer.resblocks[-1].__class__ = ClassTokenBlock
    return model


def load_base(profile: str, backbone: str) -> CLIP:
    """Return the CLIP that experts start from, in float32, frozen and in evaluation mode.

    It has the shipped weights or, in a profile that is not pretrained, random ones from a fixed seed. A missing
    or broken weights file is an InputError.
    """
    model = create(profile, backbone, UNTRAINED_SEED)
    if profiles.load(profile).pretrained:
        file = weights_file(profile, backbone)
        state = {key: tensor.float() for key, tensor in checkpoints.load(file).items()}
        provenance.note(file)
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(f"{file}: does not fit the configuration {backbone}; restore both from git.") from error
    return model.requires_grad_(False)


def image_size(visual: VisionTransformer) -> int:
    """Return the side, in pixels, of the square images that an image encoder reads."""
    return int(visual.image_size[0])


def preprocess(images: UInt8[Tensor, "n 3 rows cols"], size: int) -> Float[Tensor, "n 3 size size"]:
    """Crop the centre of ``size`` x ``size`` pixels, scale to [0, 1] and normalise."""
    top, left = (images.shape[2] - size) // 2, (images.shape[3] - size) // 2
    centre = images[:, :, top : top + size, left : left + size]
    return (centre.float() / 255 - IMAGE_MEAN) / IMAGE_STD


@functools.cache
def word_ids() -> Mapping[str, int]:
    """Return the id of every word in the vocabulary; 0 and 1 are padding and start."""
    file = vocabulary_file()
    try:
        words = provenance.read(file).decode().split()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); restore it from git.") from error
    return {word: FIRST_WORD + i for i, word in enumerate(words)}


def split_words(text: str) -> list[str]:
    """Return the lower-case words of a text without its punctuation.

    >>> split_words('A photo of a "7", rotated.')
    ['a', 'photo', 'of', 'a', '7', 'rotated']
    """
    return re.findall(r"[^\W_]+", text.lower())


def tokenize(texts: Sequence[str]) -> Int64[Tensor, "n context"]:
    """Return one row of word ids per text: start, words, end, padding.

    The end token is the largest id, because open_clip pools the text at the largest id of a row. A word
    that is not in the vocabulary and a text that does not fit the context are InputErrors.
    """
    ids = word_ids()
    rows = torch.full((len(texts), CONTEXT_LENGTH), PAD, dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        words = split_words(text)
        if unknown := [word for word in words if word not in ids]:
            raise InputError(f"{text!r}: the word {unknown[0]!r} is not in {vocabulary_file()}; use another word.")
        if len(words) + 2 > CONTEXT_LENGTH:
            raise InputError(f"{text!r}: longer than {CONTEXT_LENGTH - 2} words; shorten it.")
        row[: len(words) + 2] = torch.tensor([START, *(ids[word] for word in words), END])
    return rows


@torch.no_grad()
def zero_shot_head(model: CLIP, classes: Sequence[str], templates: Sequence[str]) -> Float[Tensor, "classes embed"]:
    """Return the frozen classifier that the text tower makes of class names.

    Each row is the mean of the class's normalised text embeddings over the templates (``{}`` stands for the
    class name), renormalised and multiplied by exp(logit_scale). Logits are its products with normalised
    image features.
    """
    texts = [template.format(name) for name in classes for template in templates]
    embeddings = model.encode_text(tokenize(texts), normalize=True)
    mean = embeddings.unflatten(0, (len(classes), len(templates))).mean(1)
    head: Tensor = torch.nn.functional.normalize(mean, dim=-1) * model.logit_scale.exp()
    return head


def encoder_state(model: CLIP) -> dict[str, Tensor]:
    """Return copies of the image encoder's parameters, whose names start with ``visual.``."""
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items() if key.startswith("visual.")}


def with_weights(model: CLIP, state: Mapping[str, Tensor]) -> VisionTransformer:
    """Return a copy of the image encoder with other weights (names ``visual.*``), in evaluation mode.

    RuntimeError when ``state`` does not name exactly the encoder's parameters.
    """
    visual = copy.deepcopy(model.visual)
    visual.load_state_dict({key.removeprefix("visual."): tensor for key, tensor in state.items()})
    return visual


def features(
    visual: VisionTransformer, state: Mapping[str, Tensor], images: UInt8[Tensor, "n 3 rows cols"]
) -> Float[Tensor, "n embed"]:
    """Return the normalised features that an image encoder gives with the weights ``state`` (names ``visual.*``).

    They can be differentiated with respect to the weights. The encoder keeps its own, but no two threads may share it.
    RuntimeError when ``state`` does not name exactly the encoder's parameters.
    """
    weights = {key.removeprefix("visual."): tensor for key, tensor in state.items()}
    inputs = preprocess(images, image_size(visual))
    return torch.nn.functional.normalize(torch.func.functional_call(visual, weights, inputs, strict=True), dim=-1)


def encode(
    visual: VisionTransformer, images: UInt8[Tensor, "n 3 rows cols"], batch: int = BATCH
) -> Float[Tensor, "n embed"]:
    """Return the normalised features that an image encoder gives to images."""
    with torch.inference_mode():
        features = [visual(preprocess(part, image_size(visual))) for part in torch.split(images, batch)]
        return torch.nn.functional.normalize(torch.cat(features), dim=-1)
