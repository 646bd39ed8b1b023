# SPDX-License-Identifier: MIT
"""The minilm world behind the protocol: sentence encoders that others pretrained, and tasks of texts."""

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from compendium import provenance
from compendium.profiles import Profile
from compendium.worlds import finetuning
from compendium.worlds.findings import Finding
from compendium.worlds.inventory import Expert
from compendium.worlds.minilm import encoder, texts, training, weights
from compendium.worlds.protocol import Features, Need, Split, SplitName
from compendium.worlds.trained import TrainedHere
from tsvlib import checkpoints, files
from tsvlib.errors import InputError
from tsvlib.taskvectors import StateDict

ABOUT = """Other people wrote these texts, for other purposes, and packages ship them; nothing was made for these
tasks but the question and one plain description of each class, from which the pretrained model itself makes the
frozen head. Texts from one chapter, file, headword or message have one source and lie in one split.
`data/minilm/README.md` has the rules, `data/minilm/LICENCES.md` the licences."""

SHOWN = 2
"""Texts of a task that fit into a line."""

LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)")


def build(profile: Profile) -> "MiniLM":
    """Return the minilm world at the size of a profile; InputError when it asks for more tasks than there are."""
    if profile.tasks > len(texts.TASKS):
        raise InputError(f"profile {profile.name}: there are {len(texts.TASKS)} tasks; lower 'tasks'.")
    provenance.name_packages("tokenizers", "transformers")
    return MiniLM(profile)


class Encoder:
    """The layers of a sentence encoder; embeddings of word pieces stay those of the pretrained model."""

    batch = 200

    def __init__(self, model: encoder.BertModel, config: Path) -> None:
        kept = checkpoints.state_digest(
            {key: tensor for key, tensor in model.state_dict().items() if not key.startswith("encoder.")}
        )
        self.model, self.digest = model, f"{files.sha256(config)} {kept}"

    def features(self, state: StateDict) -> Features:
        """Return what encodes texts with these weights."""
        return partial(encoder.encode, encoder.with_weights(self.model, state))

    def differentiable(self) -> Callable[[StateDict, Tensor], Float[Tensor, "n embed"]]:
        """Return what encodes texts with given weights and keeps a graph, on an encoder of its own."""
        return partial(encoder.features, encoder.with_weights(self.model, encoder.encoder_state(self.model)))


class MiniLM(TrainedHere):
    """Two sentence encoders of one width and different depth, and twenty tasks of texts."""

    inputs = "texts"
    about = ABOUT

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self.tasks = tuple(texts.TASKS.values())[: profile.tasks]
        # Small: some megabytes for the numbers of all word pieces, and the models of two backbones.
        self._split = cache(self._tokenized)
        self._model = cache(partial(encoder.load_base, profile.name))

    def split(self, task: str, name: SplitName) -> Split:
        """Return one split of a task: a row of word pieces for each text, as many texts as the profile asks for."""
        return self._split(task, name)

    def examples(self, task: str) -> tuple[str, ...]:
        """Return the first training texts of a task."""
        return texts.load(task, "train", SHOWN).texts

    def start(self, backbone: str) -> dict[str, Tensor]:
        """Return the pretrained layers (``encoder.*``)."""
        return encoder.encoder_state(self._model(backbone))

    def head(self, backbone: str, task: str) -> Float[Tensor, "classes embed"]:
        """Return the zero-shot head that the pretrained model makes of the descriptions of classes."""
        return encoder.zero_shot_head(self._model(backbone), tuple(texts.TASKS[task].descriptions.values()))

    def encoder(self, backbone: str) -> Encoder:
        """Return the encoder of a backbone."""
        return Encoder(self._model(backbone), encoder.config_file(self.profile.name, backbone))

    def place(self, key: str) -> tuple[int, str]:
        """Return the number of a tensor's layer, -1 outside of these, and its name in there."""
        found = LAYER.fullmatch(key)
        return (int(found[1]), found[2]) if found else (-1, key)

    def recipe(self, expert: Expert) -> dict[str, object]:
        """Return all that decides the bytes of an expert here beside the profile: base, data and code."""
        return {
            "base": checkpoints.state_digest(self._model(expert.backbone).state_dict()),
            "data": self.split(expert.task, "train").digest,
            **self._code,
        }

    def train(self, expert: Expert) -> dict[str, Tensor]:
        """Return the layers of an expert after training; embeddings, and the head, stay frozen."""
        base, data = self._model(expert.backbone), self.split(expert.task, "train")
        head = self.head(expert.backbone, expert.task)
        return training.finetune(base, head, data.inputs[:], data.labels, self.profile.finetuning, expert.seed)

    def needs(self) -> Iterator[Need]:
        """Yield pretrained weights and texts, and what is made and kept: experts above all."""
        for backbone in self.profile.backbones:
            random = Finding("present", "random, from a fixed seed")
            yield Need("base model", backbone.name, weights.look(backbone.name) if self.profile.pretrained else random)
        for task in self.tasks:
            yield Need("data set", task.name, texts.look(task.name))
        yield from self.kept_experts()
        yield from self.kept_rest()

    def _tokenized(self, task: str, name: SplitName) -> Split:
        found = texts.load(task, name, getattr(self.profile.samples, name))
        tokens, labels = encoder.tokenize(found.texts), torch.tensor(found.labels)
        content = hashlib.sha256(tokens.numpy().tobytes() + labels.numpy().tobytes())
        return Split(tokens, labels, content.hexdigest(), found.sources)

    @cached_property
    def _code(self) -> dict[str, str]:
        modules = (str(encoder.__file__), str(training.__file__), str(finetuning.__file__))
        return {Path(file).name: files.sha256(Path(file)) for file in modules}
