# SPDX-License-Identifier: MIT
"""What lies beside the weights of a model and has to lie beside merged ones: configuration, tokenizer, licence."""

import json
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

from tsvlib import files
from tsvlib.checkpoints import hub

_NAMES = (
    "config.json",
    "*_config.json",
    "config_*.json",
    "tokenizer*.*",
    "*_tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "vocab-*.*",
    "merges.txt",
    "*.tiktoken",
    "*.model",
    "*.jinja",
    "normalizer.json",
    "modules.json",
    # Code that a configuration names.
    *(f"{what}_*.py" for what in ("configuration", "modeling", "tokenization", "processing", "*_processing")),
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
)
# Folders of sentence-transformers with what comes after the encoder.
_FOLDERS = "[0-9]_*"
_TYPES = ("dtype", "torch_dtype")


def is_one(name: str) -> bool:
    """Tell whether a file of a model's folder belongs beside its weights, by its name within that folder.

    >>> [is_one(name) for name in ("config.json", "1_Pooling/config.json", "model.safetensors", "notes.txt")]
    [True, True, False, False]
    """
    folder, _, own = name.rpartition("/")
    if folder:
        return "/" not in folder and fnmatchcase(folder, _FOLDERS)
    return any(fnmatchcase(own, pattern) for pattern in _NAMES)


def copy(source: Path, target: Path, dtype: str | None = None) -> None:
    """Copy what belongs beside weights from one folder into another, where nothing of these names is yet.

    Links that lead out of the folder are left alone. ``dtype`` is the type that a configuration has to name from now
    on, if it names one. InputError when something cannot be read.
    """
    for file in sorted((*source.glob("*"), *source.glob(f"{_FOLDERS}/*"))):
        name = file.relative_to(source)
        if not (is_one(name.as_posix()) and file.is_file() and hub.holds(source, file)):
            continue
        (target / name).parent.mkdir(exist_ok=True)
        with files.opened(file) as read, (target / name).open("xb") as written:
            if dtype and name.name == "config.json":
                written.write(_typed(read.read(), dtype))
            else:
                shutil.copyfileobj(read, written)


def _typed(content: bytes, dtype: str) -> bytes:
    """Return a configuration that names the type of the weights, and otherwise just what it was."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return content
    named = [name for name in _TYPES if isinstance(found, dict) and isinstance(found.get(name), str)]
    if not named:
        return content
    return f"{json.dumps(found | dict.fromkeys(named, dtype), indent=2, ensure_ascii=False)}\n".encode()
