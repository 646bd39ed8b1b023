# SPDX-License-Identifier: MIT
"""What means nearly the same leaves, and digests are written.

``python -m compendium.worlds.minilm.extraction.nearness``, after the texts are extracted. The larger of the pretrained
models tells how near two texts are.
"""

import click
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from compendium.terminal import tell
from compendium.worlds.minilm import encoder, texts
from compendium.worlds.protocol import SPLITS
from tsvlib.files import replacing

NEAR = 0.95
"""The cosine of embeddings from which a text leaves the validation or the test."""

JUDGE = "minilm-l6"


def closest(texts_of: Float[Tensor, "n embed"], others: Float[Tensor, "m embed"]) -> Float[Tensor, " n"]:
    """Return the cosine of each normalised row with the closest of the others."""
    return (texts_of @ others.T).amax(1)


def far(frame: pd.DataFrame, model: encoder.BertModel) -> pd.DataFrame:
    """Return the rows of a task without validation texts near one of training, and test texts near one of the two."""
    embedded = encoder.encode(model, encoder.tokenize(list(frame["text"])))
    kept = torch.from_numpy((frame["split"] == SPLITS[0]).to_numpy().copy())
    for split in SPLITS[1:]:
        mine = torch.from_numpy((frame["split"] == split).to_numpy().copy())
        is_far: Bool[Tensor, " n"] = closest(embedded[mine], embedded[kept]) < NEAR
        kept[mine.nonzero()[is_far]] = True
    return frame[kept.numpy()]


def digests() -> str:
    """Return the digests of all splits as TOML."""
    lines = ["# The SHA-256 of texts and labels of every split, as texts.load tells it.\n"]
    for name in texts.TASKS:
        lines += [f"\n[{name}]\n", *(f'{split} = "{texts.load(name, split).digest}"\n' for split in SPLITS)]
    return "".join(lines)


@click.command()
def main() -> None:
    """Leave out of the shipped texts what means nearly the same as one of an earlier split, and write all digests."""
    model = encoder.load_base("minilm", JUDGE)
    for name in texts.TASKS:
        file = texts.FOLDER / f"{name}.csv"
        frame = pd.read_csv(file, dtype=str, keep_default_na=False)
        kept = far(frame, model)
        with replacing(file) as draft:
            kept.to_csv(draft, index=False, lineterminator="\n", encoding="utf-8")
        tell(f"{name}: {len(frame) - len(kept)} of {len(frame)} texts leave")
    with replacing(texts.FOLDER.parent / "digests.toml") as draft:
        draft.write_text(digests(), encoding="utf-8")


if __name__ == "__main__":
    main()
