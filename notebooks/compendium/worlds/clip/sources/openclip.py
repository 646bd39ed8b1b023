# SPDX-License-Identifier: MIT
"""Experts of open_clip's encoders: those of TALL-masks, of the paper's own authors, and of Task Arithmetic.

Their folders differ in names alone. A file holds a plain state dict or a whole pickled module; both are read, whichever
of the two a source is known for, and text embeddings that training left as they were stay unread.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from compendium.worlds.clip.modules import Module
from compendium.worlds.clip.sources import backbones, looking
from compendium.worlds.clip.sources.protocol import Layout, Offer, Opened
from compendium.worlds.findings import Finding
from tsvlib.checkpoints import open_checkpoint
from tsvlib.errors import InputError

TEXT = re.compile(
    r"transformer\.resblocks\.\d+\..+|token_embedding\.weight|positional_embedding|text_projection|logit_scale"
    r"|ln_final\.(weight|bias)|attn_mask"
)
"""What a CLIP holds beside its image encoder."""

OPENAI = Path("openai")
"""The folder, inside of that of a backbone, of the weights that all experts began with, as open_clip has them."""

OPENAI_NAMES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass(frozen=True)
class OpenClip:
    """One of these sources. Paths are below the folder of a backbone, and hold ``{task}`` where that comes in.

    ``drives`` are folders of Google Drive, by backbone or, under an empty name, for all.
    """

    name: str
    expert: str
    base: str
    classifier: str
    drives: Mapping[str, str]
    begins_pickled: bool = False
    hub: str | None = None
    layout: Layout = "open_clip"

    def files(self, folder: Path, backbone: str, task: str | None) -> Path:
        """Return the file of a checkpoint; the base may also be that of open_clip, where the source has none."""
        name = self.base if task is None else self.expert.format(task=task)
        places = [place / name for place in _folders(folder, backbone)]
        usual = openai_file(folder, backbone) if task is None else places[0]
        return next((place for place in places if place.is_file()), usual)

    def offer(self, folder: Path, backbone: str, task: str | None) -> Offer | None:
        """Return where the hub has a checkpoint: experts for TALL-masks, the base for all three."""
        if task is None:
            return openai_offer(folder, backbone)
        if self.hub is None:
            return None
        name = self.expert.format(task=task)
        return Offer(self.hub, {f"single_task/{backbone}/{name}": folder / backbone / name})

    def by_hand(self, folder: Path, backbone: str, task: str | None) -> str:
        """Return what to copy from where: an expert from Google Drive, the base from what open_clip takes it from."""
        if task is None:
            return openai_by_hand(folder, backbone)
        drive, file = self.drives.get(backbone) or self.drives[""], self.files(folder, backbone, task)
        name = f"{backbone}/{self.expert.format(task=task)}"
        return f"copy {name} from https://drive.google.com/drive/folders/{drive} to {file}"

    def look(self, folder: Path, backbone: str, task: str | None) -> Finding:
        """Return whether a checkpoint is there, whole, and of that backbone, by its names and shapes."""
        shapes = backbones.whole(backbone) if task is None else backbones.published(backbone)
        return looking.look(self, folder, backbone, task, backbones.size(shapes), self._names)

    def read(self, folder: Path, backbone: str, task: str | None) -> dict[str, Tensor]:
        """Return the tensors of an image encoder (``visual.*``) in float32."""
        file = self.files(folder, backbone, task)
        opened, names = self._names(file, backbone)
        return backbones.read(file, opened, names)

    def projection(self, folder: Path, backbone: str) -> Float[Tensor, "embed width"]:
        """Raise ValueError: here each encoder has a projection of its own, ``visual.proj``."""
        raise ValueError(f"{self.name}: encoders of {backbone} in {folder} have their projection among their tensors")

    def head(self, folder: Path, backbone: str, task: str) -> Float[Tensor, "classes embed"] | None:
        """Return the weights of the classifier beside an expert, or None where there is none.

        Raises:
            InputError: it is damaged, or no linear classifier without bias for that backbone.
        """
        places = [place / self.classifier.format(task=task) for place in _folders(folder, backbone)]
        file = next((place for place in places if place.is_file()), None)
        return None if file is None else _head(file, backbone)

    def _names(self, file: Path, backbone: str) -> tuple[Opened, dict[str, str]]:
        opened = _opened(file, self.begins_pickled)
        begin = "model." if any(key.startswith("model.") for key in opened.layout) else ""
        return opened, backbones.matched(file, opened.layout, backbones.encoder(backbone, "open_clip"), begin, TEXT)


TALL_MASKS = OpenClip(
    name="tall-masks",
    expert="{task}Val/nonlinear_finetuned.pt",
    base="MNISTVal/nonlinear_zeroshot.pt",
    classifier="head_{task}Val.pt",
    drives={
        "": "15ParSng4d5xSdaWdBFsg1617zPXT8Dae",
        "ViT-B-32": "16xmoeMqNf1JlICqjMUEgHiH6mHn0G1f0",
        "ViT-B-16": "1dmLqIwCYPqO0qsNEuflPhC5-_QodQHDv",
        "ViT-L-14": "1QFBcz79RqXUAkEVlYOItt6VJIcf1Ppq6",
    },
    hub="nik-dim/tall_masks",
)
TSV = OpenClip(
    name="tsv",
    expert=TALL_MASKS.expert,
    base=TALL_MASKS.base,
    classifier=TALL_MASKS.classifier,
    drives={"": "1UEM1Thcz1c7dc1nji1i5uTN53Kf6G3-e"},
)
TASK_ARITHMETIC = OpenClip(
    name="task-arithmetic",
    expert="{task}/finetuned.pt",
    base="zeroshot.pt",
    classifier="head_{task}.pt",
    drives={"": "1u_Tva6x0p6oxu5Eo0ZZsf-520Cc_3MKw"},
    begins_pickled=True,
)

BASE = OpenClip(name="own", expert="", base=f"{OPENAI}/{OPENAI_NAMES[0]}", classifier="", drives={})
"""What has the base alone, from which one's own experts begin."""


def openai_file(folder: Path, backbone: str) -> Path:
    """Return the file of OpenAI's whole CLIP, with the text tower that experts lack, or where it will lie."""
    places = [place / OPENAI / name for place in _folders(folder, backbone) for name in OPENAI_NAMES]
    return next((place for place in places if place.is_file()), places[0])


def openai_offer(folder: Path, backbone: str) -> Offer:
    """Return where the hub has that file; InputError when open_clip knows no such weights for a backbone."""
    return Offer(_openai(backbone), {name: folder / backbone / OPENAI / name for name in OPENAI_NAMES})


def openai_by_hand(folder: Path, backbone: str) -> str:
    """Return how to get that file without our help, as the end of a sentence."""
    file = openai_file(folder, backbone)
    return f"put {file.name} of the repository {_openai(backbone)} on the hub at {file}"


def _folders(folder: Path, backbone: str) -> list[Path]:
    """Return where the files of a backbone may be: as the authors' folders are, or as a copy of the hub is."""
    names = (backbone, backbone.replace("ViT", "VIT", 1))
    return [place / name for place in (folder, folder / "single_task") for name in names]


def _openai(backbone: str) -> str:
    """Return the repository of the weights that open_clip calls ``openai``."""
    import open_clip

    found = (open_clip.get_pretrained_cfg(backbone, "openai") or {}).get("hf_hub", "")
    if not found:
        raise InputError(f"backbone {backbone}: open_clip has no weights of OpenAI for it; put its base there by hand.")
    return str(found).rstrip("/")


def _opened(file: Path, begins_pickled: bool) -> Opened:
    """Open a state dict or a module, whichever it is; when it is neither, tell of what it was thought to be."""
    ways: list[Callable[[Path], Opened]] = [open_checkpoint, Module]
    if file.suffix != ".pt":
        return open_checkpoint(file)
    first, second = reversed(ways) if begins_pickled else ways
    try:
        return first(file)
    except InputError as error:
        try:
            return second(file)
        except InputError:
            raise error from None


def _head(file: Path, backbone: str) -> Float[Tensor, "classes embed"]:
    opened = Module(file)
    width = backbones.encoder(backbone, "open_clip")["visual.proj"][1]
    if opened.layout.keys() - {"bias"} != {"weight"} or opened.layout["weight"].shape[1:] != (width,):
        raise InputError(f"{file}: this is no classifier of {width} features; put one of that backbone there.")
    found = backbones.read(file, opened, {key: key for key in opened.layout})
    if torch.count_nonzero(found.get("bias", torch.zeros(1))):
        raise InputError(f"{file}: the classifier has a bias, for which there is no place here; remove the file.")
    return found["weight"]
