# SPDX-License-Identifier: MIT
"""A world that has nothing in common with mini: small MLPs on scikit-learn's tables, some of their columns shuffled."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from sklearn import datasets as tables
from torch import Tensor

from compendium import paths
from compendium.profiles import Profile
from compendium.worlds import inventory
from compendium.worlds.inventory import Expert
from compendium.worlds.protocol import SPLITS, Features, Need, Split, SplitName
from tsvlib import checkpoints
from tsvlib.taskvectors import StateDict

COLUMNS, EMBED, LAYERS = 32, 16, 3
WIDTHS = {"narrow": 24, "wide": 40}
SHARPNESS = 8.0


@dataclass(frozen=True)
class Table:
    """One task: a table, and in which order its columns stand."""

    name: str
    title: str
    classes: tuple[str, ...]
    shuffle: int
    source: str = "scikit-learn"
    licence: str = "BSD-3-Clause"
    real: bool = True

    @property
    def table(self) -> str:
        return self.name.partition("-")[0]


TASKS = (
    Table("iris", "Iris", ("setosa", "versicolor", "virginica"), 0),
    Table("wine", "Wine", ("first", "second", "third"), 1),
    Table("cancer", "Tumours", ("malignant", "benign"), 2),
    Table("wine-shuffled", "Wine, shuffled", ("first", "second", "third"), 3),
    Table("cancer-shuffled", "Tumours, shuffled", ("malignant", "benign"), 4),
)
LOADERS = {"iris": tables.load_iris, "wine": tables.load_wine, "cancer": tables.load_breast_cancer}


def build(profile: Profile) -> "World":
    return World(profile)


@cache
def rows(table: str, shuffle: int) -> tuple[Tensor, Tensor]:
    """Return standardised rows, with their columns spread over those of the model, and their labels, both shuffled."""
    found = LOADERS[table](return_X_y=False)
    random = np.random.default_rng(shuffle)
    order = random.permutation(len(found.target))
    values = (found.data - found.data.mean(0)) / found.data.std(0)
    wide = np.zeros((len(values), COLUMNS), np.float32)
    wide[:, random.permutation(COLUMNS)[: values.shape[1]]] = values
    return torch.from_numpy(wide[order]), torch.from_numpy(found.target[order].astype(np.int64))


class Encoder:
    """An MLP whose layers are named as no CLIP names them."""

    batch, digest = 16, "tables"

    def features(self, state: StateDict) -> Features:
        def encoded(inputs: Tensor) -> Tensor:
            with torch.no_grad():
                return mlp(state, inputs)

        return encoded

    def differentiable(self) -> Callable[[StateDict, Tensor], Tensor]:
        return mlp


def mlp(state: StateDict, inputs: Float[Tensor, "n columns"]) -> Float[Tensor, "n embed"]:
    hidden = inputs
    for layer in range(LAYERS):
        hidden = torch.tanh(hidden @ state[f"body.{layer}.weight"].T + state[f"body.{layer}.bias"])
    return torch.nn.functional.normalize(hidden @ state["out.weight"].T, dim=-1)


def start(width: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(width)
    sizes = [COLUMNS, *[width] * LAYERS]
    state = {}
    for layer in range(LAYERS):
        before, after = sizes[layer : layer + 2]
        state[f"body.{layer}.weight"] = torch.randn(after, before, generator=random) / before**0.5
        state[f"body.{layer}.bias"] = torch.zeros(after)
    return state | {"out.weight": torch.randn(EMBED, width, generator=random) / width**0.5}


class World:
    """What its tasks, models and experts answer to studies."""

    inputs = "rows"
    stated = ""
    published = False
    about = "Some of the tables have their columns shuffled."

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.tasks = TASKS[: profile.tasks]

    def split(self, task: str, name: SplitName) -> Split:
        about = self._about(task)
        inputs, labels = rows(about.table, about.shuffle)
        sizes = [getattr(self.profile.samples, each) for each in SPLITS]
        start = sum(sizes[: SPLITS.index(name)])
        chosen = slice(start, start + sizes[SPLITS.index(name)])
        digest = hashlib.sha256(inputs[chosen].numpy().tobytes() + labels[chosen].numpy().tobytes()).hexdigest()
        return Split(inputs[chosen], labels[chosen], digest, [f"{about.table} {n}" for n in range(len(labels))[chosen]])

    def examples(self, task: str) -> list[str]:
        return [" ".join(f"{value:.1f}" for value in row[:8].tolist()) for row in self.split(task, "train").inputs[:2]]

    def base(self, backbone: str) -> Path:
        file, recipe = paths.cache(self.profile.name) / "bases" / f"{backbone}.safetensors", {"width": WIDTHS[backbone]}
        if not inventory.is_current(file, recipe):
            checkpoints.save(file, start(WIDTHS[backbone]), recipe)
        return file

    def expert(self, backbone: str, task: str, seed: int) -> Path:
        return inventory.path(self.profile, Expert(backbone, task, seed))

    def head(self, backbone: str, task: str) -> Tensor:  # noqa: ARG002
        about = self._about(task)
        random = torch.Generator().manual_seed(1000 + about.shuffle)
        directions = torch.linalg.qr(torch.randn(EMBED, len(about.classes), generator=random)).Q
        return SHARPNESS * directions.T.contiguous()

    def encoder(self, backbone: str) -> Encoder:  # noqa: ARG002
        return Encoder()

    def place(self, key: str) -> tuple[int, str]:
        body, number, name = key.partition(".")[0], key.split(".")[1], key.split(".")[-1]
        return (int(number), name) if body == "body" else (-1, key)

    def remedy(self) -> str:
        return inventory.remedy(self.profile)

    def needs(self) -> Iterator[Need]:
        yield from ()

    def recipe(self, expert: Expert) -> dict[str, object]:
        return {"data": self.split(expert.task, "train").digest}

    def train(self, expert: Expert) -> dict[str, Tensor]:
        data, head = self.split(expert.task, "train"), self.head(expert.backbone, expert.task)
        state = {key: tensor.requires_grad_() for key, tensor in start(WIDTHS[expert.backbone]).items()}
        optimiser = torch.optim.Adam(state.values(), lr=0.01)
        random = torch.Generator().manual_seed(expert.seed)
        for _ in range(40 * self.profile.finetuning.epochs):
            chosen = torch.randperm(len(data.labels), generator=random)[: self.profile.finetuning.batch_size]
            logits = mlp(state, data.inputs[chosen]) @ head.T
            loss = torch.nn.functional.cross_entropy(logits, data.labels[chosen])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        return {key: tensor.detach() for key, tensor in state.items()}

    def _about(self, task: str) -> Table:
        return next(about for about in self.tasks if about.name == task)
