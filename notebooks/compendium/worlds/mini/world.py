# SPDX-License-Identifier: MIT
"""The mini world behind the protocol: what its tasks, CLIPs and experts answer to studies."""

from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial
from pathlib import Path

from jaxtyping import Float, UInt8
from torch import Tensor

from compendium import provenance
from compendium.profiles import Profile
from compendium.worlds import finetuning
from compendium.worlds.findings import Finding
from compendium.worlds.inventory import Expert
from compendium.worlds.mini import datasets, models, training
from compendium.worlds.protocol import Features, Need, Split, SplitName
from compendium.worlds.trained import TrainedHere
from tsvlib import checkpoints, files
from tsvlib.errors import InputError
from tsvlib.taskvectors import StateDict

ABOUT = """Every task is seen through its own domain shift: colours mixed, contrast lowered, a coarse pattern laid
over, and for half of the tasks everything inverted. That is what a zero-shot model stumbles over and an expert
learns. Test images come from other fonts, scans and sizes than training images, and from other tiles of the same
photographs; the sources of an image are font faces, tiles, scans and cells of sizes. `data/mini/README.md` has the
rules."""

SHOWN = 14
"""Images of a task that are enough to see what it asks."""

RESTORE = "restore it from git"


def build(profile: Profile) -> "Mini":
    """Return the mini world at the size of a profile; InputError when it asks for more tasks than there are."""
    if profile.tasks > len(datasets.TASKS):
        raise InputError(f"profile {profile.name}: there are {len(datasets.TASKS)} tasks; lower 'tasks'.")
    provenance.name_packages("open_clip_torch")
    return Mini(profile)


class Encoder:
    """The image encoder of a mini CLIP."""

    batch = models.BATCH

    def __init__(self, model: models.CLIP, config: Path) -> None:
        self.model, self.digest = model, files.sha256(config)

    def features(self, state: StateDict) -> Features:
        """Return what encodes images with these weights."""
        return partial(models.encode, models.with_weights(self.model, state))

    def differentiable(self) -> Callable[[StateDict, Tensor], Float[Tensor, "n embed"]]:
        """Return what encodes images with given weights and keeps a graph, on an encoder of its own."""
        return partial(models.features, models.with_weights(self.model, models.encoder_state(self.model)))


class Mini(TrainedHere):
    """Three small CLIPs that learnt a captioned world here, and twenty tasks of images that are drawn here."""

    inputs = "images"
    about = ABOUT

    def __init__(self, profile: Profile) -> None:
        super().__init__(profile)
        self.tasks = tuple(datasets.TASKS.values())[: profile.tasks]
        # Small: drawn splits and models of all backbones take some tens of megabytes.
        self._split = cache(partial(datasets.cached, profile))
        self._model = cache(partial(models.load_base, profile.name))

    def split(self, task: str, name: SplitName) -> Split:
        """Return one split of a task: images of 32 x 32 pixels."""
        return self._split(task, name)

    def examples(self, task: str) -> UInt8[Tensor, "n 3 rows cols"]:
        """Return the first training images of a task."""
        return self.split(task, "train").inputs[:SHOWN]

    def start(self, backbone: str) -> dict[str, Tensor]:
        """Return the image encoder of the base model (``visual.*``)."""
        return models.encoder_state(self._model(backbone))

    def head(self, backbone: str, task: str) -> Float[Tensor, "classes embed"]:
        """Return the zero-shot head that the text tower makes of the names of classes."""
        about = datasets.TASKS[task]
        return models.zero_shot_head(self._model(backbone), about.classes, about.templates)

    def encoder(self, backbone: str) -> Encoder:
        """Return the image encoder of a backbone."""
        return Encoder(self._model(backbone), models.config_file(self.profile.name, backbone))

    def place(self, key: str) -> tuple[int, str]:
        """Return the number of a tensor's residual block, -1 outside of these, and its name in there."""
        _, inside, after = key.partition(".resblocks.")
        number, _, name = after.partition(".")
        return (int(number), name) if inside else (-1, key.removeprefix("visual."))

    def recipe(self, expert: Expert) -> dict[str, object]:
        """Return all that decides the bytes of an expert here beside the profile: base, data and code."""
        return {
            "base": checkpoints.state_digest(self._model(expert.backbone).state_dict()),
            "data": self.split(expert.task, "train").digest,
            **self._code,
        }

    def train(self, expert: Expert) -> dict[str, Tensor]:
        """Return the weights of an expert after training."""
        base, data = self._model(expert.backbone), self.split(expert.task, "train")
        head = self.head(expert.backbone, expert.task)
        return training.finetune(base, head, data.inputs[:], data.labels, self.profile.finetuning, expert.seed)

    def needs(self) -> Iterator[Need]:
        """Yield the base models, which ship with the checkout, and what is made and kept: experts above all."""
        for backbone in self.profile.backbones:
            yield Need("base model", backbone.name, self._look_at_base(backbone.name))
        yield from self.kept_experts()
        yield from self.kept_rest()

    def _look_at_base(self, backbone: str) -> Finding:
        config, weights = (of(self.profile.name, backbone) for of in (models.config_file, models.weights_file))
        if not self.profile.pretrained:
            present = Finding("present", "random, from a fixed seed")
            return present if config.is_file() else Finding("missing", f"{config}: the file is missing; {RESTORE}.")
        if missing := next((file for file in (config, weights) if not file.is_file()), None):
            return Finding("missing", f"{missing}: the file is missing; {RESTORE}.")
        try:
            checkpoints.verify(weights, RESTORE)
        except InputError as error:
            return Finding("wrong", str(error))
        return Finding("present", f"in {weights.parent}", weights.stat().st_size)

    @cached_property
    def _code(self) -> dict[str, str]:
        modules = (str(models.__file__), str(training.__file__), str(finetuning.__file__))
        return {Path(file).name: files.sha256(Path(file)) for file in modules}
