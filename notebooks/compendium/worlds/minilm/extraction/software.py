# SPDX-License-Identifier: MIT
"""Texts of software: interface messages, licence notices, documentation, source code."""

import ast
import re
from collections.abc import Iterator

from compendium.worlds.minilm.extraction.archives import Archives
from compendium.worlds.minilm.extraction.selection import Found

LANGUAGES = (
    "cs", "da", "de", "es", "et", "fi", "fr", "hr", "hu", "id", "it", "lt", "lv", "nb", "nl", "pl", "pt", "ro", "sk",
    "sl", "sq", "sv", "tr", "vi",
)  # fmt: skip
"""Languages in Latin letters whose translations of Django are nearly complete."""

LIBRARIES = {
    "astropy": "astropy", "biopython": "Bio", "Django": "django", "music21": "music21", "networkx": "networkx",
    "nltk": "nltk", "pandas": "pandas", "scikit-image": "skimage", "scikit-learn": "sklearn",
    "SQLAlchemy": "sqlalchemy", "statsmodels": "statsmodels", "sympy": "sympy", "Twisted": "twisted",
}  # fmt: skip
"""Packages whose documentation is read, with the folder in which their modules lie."""

_CODE = (
    ("css", "bootstrap", ".scss"), ("cpp", "react-native", ".cpp"), ("go", "golang-golang-x-text-dev", ".go"),
    ("java", "react-native", ".java"), ("javascript", "lodash", ".js"), ("javascript", "express", ".js"),
    ("kotlin", "react-native", ".kt"), ("lua", "lua-penlight", ".lua"), ("objective-c", "react-native", ".m"),
    ("objective-c", "react-native", ".mm"), ("perl", "libmojolicious-perl", ".pm"), ("php", "php-twig", ".php"),
    ("python", "networkx", ".py"), ("ruby", "ruby-sinatra", ".rb"), ("ruby", "react-native", ".rb"),
    ("typescript", "rxjs", ".ts"),
)  # fmt: skip
_COMMENT = re.compile(r"//|/\*|\*|#(?!i|d|e|p)|--|=|\"\"\"")
LINES, STEP = 3, 6
"""How many lines of code are one text, and how many lines are between the beginnings of two."""


def read_languages(archives: Archives) -> Iterator[Found]:
    """Yield translated interface sentences by language; all translations of one message are a group."""
    for name, content in archives.members("Django", "LC_MESSAGES/django.po"):
        language = name.split("/")[-3]
        if language in LANGUAGES:
            for message, translation in _messages(content.decode()):
                if "%" not in translation and "{" not in translation and len(translation.split()) >= 3:
                    yield Found(translation, language, message)


def _messages(catalogue: str) -> Iterator[tuple[str, str]]:
    """Yield messages of a gettext catalogue with their translations, but fuzzy ones and plurals."""
    for entry in re.split(r"\n\s*\n", catalogue):
        found = re.search(r'^msgid ((?:".*"\n)+)msgstr ((?:".*"(?:\n|$))+)', entry, re.MULTILINE)
        if found and "#, fuzzy" not in entry:
            parts = (part.splitlines() for part in found.groups())
            message, translation = ("".join(map(ast.literal_eval, lines)) for lines in parts)
            if message and translation != message:
                yield message, translation


def read_licences(archives: Archives) -> Iterator[Found]:
    """Yield notices and references of one licence by its category; those of a licence are one group."""
    categories: dict[str, str] = {}
    for _, content in archives.members("licensedcode-data", ".LICENSE"):
        about = _front_matter(content)[0]
        if "key" in about:
            categories[about["key"]] = about.get("category", "")
    for name, content in archives.members("licensedcode-data", ".RULE"):
        about, text = _front_matter(content)
        licence = about.get("license_expression", "")
        words = len(text.split())
        if "/rules/" in name and licence in categories and words >= 5 and "is_license_tag" not in about:
            yield Found(text, categories[licence], licence)


def _front_matter(content: bytes) -> tuple[dict[str, str], str]:
    """Return the plain keys above a text, and the text."""
    parts = re.split(r"^---\s*$", content.decode(errors="replace"), maxsplit=2, flags=re.MULTILINE)
    if len(parts) < 3:
        return {}, ""
    return dict(re.findall(r"^(\w+): *(.+)$", parts[1], re.MULTILINE)), parts[2]


def read_docs(archives: Archives) -> Iterator[Found]:
    """Yield the first paragraphs of what documents classes and functions, by library; a file is one group."""
    for library, folder in LIBRARIES.items():
        for name, content in archives.members(library, ".py"):
            if name.startswith(f"{folder}/") and "/tests/" not in name and "/test/" not in name:
                for text in _documentation(content.decode(errors="replace")):
                    yield Found(text, library, name)


def _documentation(source: str) -> Iterator[str]:
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = (ast.get_docstring(node) or "").partition("\n\n")[0]
            if len(first.split()) >= 5 and ">>>" not in first and "Deprecated" not in first:
                yield first


def read_code(archives: Archives) -> Iterator[Found]:
    """Yield a few lines of source code by its language; a file is one group."""
    for language, package, ending in _CODE:
        for name, content in archives.members(package, ending):
            if "/tables" in name:  # not what people have written
                continue
            lines = [line.strip() for line in content.decode(errors="replace").splitlines()]
            told = [line for line in lines if re.search(r"\w", line) and not _COMMENT.match(line)]
            if max(map(len, told), default=0) < 400:  # not what a machine has packed
                for start in range(0, len(told) - LINES + 1, STEP):
                    yield Found(" ".join(told[start : start + LINES]), language, f"{package} {name}")
