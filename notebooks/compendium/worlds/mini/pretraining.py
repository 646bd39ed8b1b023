# SPDX-License-Identifier: MIT
"""Contrastive pretraining of the mini CLIPs on the captioned world: ``make pretrain``.

Done once; its results are shipped. Every stage can be killed and continues: the world is drawn chunk by chunk, the
training state is kept every few hundred steps, and the order of the images depends on the seed alone. Matrix
products run in bfloat16, so that another machine gives other weights of the same quality, not the same bytes.
"""

import dataclasses
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import log_softmax

from compendium import paths
from compendium.worlds.mini import models
from compendium.worlds.mini.datasets import world
from compendium.worlds.mini.datasets.families import FAMILIES
from tsvlib import checkpoints
from tsvlib.files import replacing
from tsvlib.progress import track

CHUNK = 10_000
WORLD_CHUNKS = 16
HELD_OUT_SEED = 1_000_000
HELD_OUT_IMAGES = 4_000
KEEP_EVERY = 250
LARGEST_LOGIT_SCALE = float(np.log(100))


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """Everything that the shipped weights depend on, besides the code."""

    seed: int = 0
    images_seen: int = 640_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 200
    clip_norm: float = 1.0

    @property
    def steps(self) -> int:
        """Number of optimiser steps."""
        return self.images_seen // self.batch_size


@dataclasses.dataclass(frozen=True)
class Captioned:
    """Captioned images in memory: pixels, caption numbers, concept numbers, and the captions themselves."""

    images: UInt8[Tensor, "n 3 32 32"]
    captions: Int64[Tensor, " n"]
    concepts: Int64[Tensor, " n"]
    texts: tuple[str, ...]


def _draw_chunk(seed: int, count: int, path: Path) -> None:
    triples = list(world.captioned(seed, count))
    images = np.stack([image for image, _, _ in triples]).transpose(0, 3, 1, 2)
    tensors = {
        "images": torch.from_numpy(np.ascontiguousarray(images)),
        "concepts": torch.tensor([concept for _, _, concept in triples]),
    }
    with replacing(path.with_suffix(".txt")) as temporary:
        temporary.write_text("\n".join(caption for _, caption, _ in triples), encoding="utf-8")
    with replacing(path) as temporary:
        save_file(tensors, temporary)


def load_world(folder: Path, seeds: list[int], count: int) -> Captioned:
    """Draw the chunks that ``folder`` lacks, two at a time, and return all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{seed}.safetensors" for seed in seeds]
    missing = [(seed, file) for seed, file in zip(seeds, files, strict=True) if not file.exists()]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool, track(len(missing), "world") as bar:
        for job in [pool.submit(_draw_chunk, seed, count, file) for seed, file in missing]:
            job.result()
            bar.update()
    parts = [load_file(file) for file in files]
    captions = [line for file in files for line in file.with_suffix(".txt").read_text("utf-8").split("\n")]
    texts = tuple(sorted(set(captions)))
    number = {text: i for i, text in enumerate(texts)}
    return Captioned(
        torch.cat([part["images"] for part in parts]),
        torch.tensor([number[caption] for caption in captions]),
        torch.cat([part["concepts"] for part in parts]),
        texts,
    )


def contrastive_loss(
    logits: Float[Tensor, "images texts"], positive: Bool[Tensor, "images texts"], ignored: Bool[Tensor, "images texts"]
) -> Float[Tensor, ""]:
    """Return the symmetric InfoNCE loss of images against the distinct captions of a batch.

    ``positive`` marks an image's own caption; ``ignored`` marks other captions of the same concept, which are
    neither positive nor negative. Texts with several images share their target evenly.
    """
    masked = logits.masked_fill(ignored, -torch.inf)
    share = positive.float()
    by_image = -(log_softmax(masked, 1).masked_fill(~positive, 0) * share).sum(1).mean()
    by_text = -(log_softmax(masked, 0).masked_fill(~positive, 0) * share / share.sum(0)).sum(0).mean()
    return (by_image + by_text) / 2


def _shifted(images: UInt8[Tensor, "n 3 32 32"], generator: torch.Generator) -> UInt8[Tensor, "n 3 32 32"]:
    """Move a whole batch by up to two pixels, repeating its edges."""
    dx, dy = torch.randint(0, 5, (2,), generator=generator).tolist()
    padded = torch.nn.functional.pad(images.float(), (2, 2, 2, 2), mode="replicate").to(torch.uint8)
    return padded[:, :, dy : dy + 32, dx : dx + 32]


def _batch_loss(
    model: models.CLIP, data: Captioned, tokens: Int64[Tensor, "texts context"], rows: Int64[Tensor, " batch"],
    generator: torch.Generator,
) -> Float[Tensor, ""]:  # fmt: skip
    images = models.preprocess(_shifted(data.images[rows], generator), models.image_size(model.visual))
    distinct, own = torch.unique(data.captions[rows], return_inverse=True)
    concept_of_text = torch.empty(len(distinct), dtype=torch.int64)
    concept_of_text[own] = data.concepts[rows]
    # For sequences this short the plain products are faster than the fused attention kernel.
    with torch.autocast("cpu", dtype=torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        image_features, text_features, scale = model(images, tokens[distinct])
    logits = scale * image_features.float() @ text_features.float().T
    positive = torch.nn.functional.one_hot(own, len(distinct)).bool()
    same = data.concepts[rows][:, None] == concept_of_text[None]
    return contrastive_loss(logits, positive, same & ~positive)


def _learning_rate(config: Pretraining, step: int) -> float:
    warmup = min(1.0, (step + 1) / config.warmup_steps)
    return config.learning_rate * warmup * 0.5 * (1 + float(np.cos(np.pi * step / config.steps)))


@torch.no_grad()
def held_out_accuracy(model: models.CLIP, data: Captioned) -> dict[str, float]:
    """Return zero-shot accuracy per family, and their mean, on held-out images of the world.

    Each image is classified among the classes of its own family.
    """
    features = models.encode(model.visual, data.images)
    known = world.concepts()
    accuracies: dict[str, float] = {}
    for family in world.world_families():
        members = [i for i, (name, _) in enumerate(known) if name == family.name]
        rows = torch.isin(data.concepts, torch.tensor(members))
        head = models.zero_shot_head(model, family.classes, FAMILIES[family.name].templates)
        hits = (features[rows] @ head.T).argmax(1) + members[0] == data.concepts[rows]
        accuracies[family.name] = hits.float().mean().item()
    return {"mean": float(np.mean(list(accuracies.values()))), **accuracies}


def _log(file: Path, row: Mapping[str, float | int]) -> None:
    old = pd.read_csv(file) if file.exists() else pd.DataFrame()
    with replacing(file) as temporary:
        pd.concat([old, pd.DataFrame([row])]).to_csv(temporary, index=False, float_format="%.4g")


def _optimiser(model: models.CLIP, config: Pretraining) -> torch.optim.AdamW:
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    free = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)


def _step(
    model: models.CLIP, optimiser: torch.optim.AdamW, config: Pretraining, step: int, data: Captioned,
    tokens: Int64[Tensor, "texts context"],
) -> float:  # fmt: skip
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    rows = torch.randint(len(data.images), (config.batch_size,), generator=generator)
    for group in optimiser.param_groups:
        group["lr"] = _learning_rate(config, step)
    loss = _batch_loss(model, data, tokens, rows, generator)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimiser.step()
    with torch.no_grad():
        model.logit_scale.clamp_(max=LARGEST_LOGIT_SCALE)
    return loss.item()


def train(profile: str, backbone: str, config: Pretraining, data: Captioned, held_out: Captioned) -> models.CLIP:
    """Train one CLIP, continuing from the last kept state, and return it."""
    model = models.create(profile, backbone, config.seed).train()
    optimiser, tokens = _optimiser(model, config), models.tokenize(data.texts)
    kept = paths.cache(profile) / "pretraining" / f"{backbone}.pt"
    log = models.weights_file(profile, backbone).with_suffix(".log.csv")
    first, began = 0, time.monotonic()
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        first, began = state["step"], began - state["seconds"]
    with track(config.steps, f"pretraining {backbone}") as bar:
        bar.update(first)
        for step in range(first, config.steps):
            loss = _step(model, optimiser, config, step, data, tokens)
            bar.update()
            if (step + 1) % KEEP_EVERY == 0 or step + 1 == config.steps:
                progress = {"step": step + 1, "seconds": time.monotonic() - began}
                _log(log, progress | {"loss": loss} | held_out_accuracy(model.eval(), held_out))
                state = {"model": model.train().state_dict(), "optimiser": optimiser.state_dict()}
                with replacing(kept) as temporary:
                    torch.save(state | progress, temporary)
    return model.eval()


def write_vocabulary(file: Path) -> None:
    """Write every word that the world's captions and the tasks' prompts use, one a line, sorted."""
    words = sorted({word for text in world.texts() for word in models.split_words(text)})
    with replacing(file) as temporary:
        temporary.write_text("\n".join(words) + "\n", encoding="utf-8")


def pretrain(profile: str, backbones: list[str], config: Pretraining) -> None:
    """Train the backbones one after another and ship their weights in float16 with the recipe."""
    write_vocabulary(models.vocabulary_file())
    folder = paths.cache(profile) / "world"
    data = load_world(folder, list(range(WORLD_CHUNKS)), CHUNK)
    held_out = load_world(folder, [HELD_OUT_SEED], HELD_OUT_IMAGES)
    for backbone in backbones:
        file = models.weights_file(profile, backbone)
        file.parent.mkdir(parents=True, exist_ok=True)
        model = train(profile, backbone, config, data, held_out)
        tensors = {key: tensor.half() for key, tensor in model.state_dict().items()}
        checkpoints.save(file, tensors, {"backbone": backbone, "pretraining": dataclasses.asdict(config)})
