# SPDX-License-Identifier: MIT
"""What a user leaves out, by names with ``*`` and ``?`` in them."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from itertools import accumulate, takewhile

from tsvlib.errors import InputError


def matched(patterns: Sequence[str], names: Collection[str], owner: str) -> dict[str, str]:
    """Return the names that patterns stand for, each with the first pattern that does.

    A pattern is the name of a tensor or of a part of the model that holds it; ``*`` is any text, ``?`` any letter.
    InputError, naming ``owner``, for one that stands for nothing.

    >>> matched(["head", "*.bias"], ["head.weight", "body.bias", "body.weight"], "a.safetensors")
    {'head.weight': 'head', 'body.bias': '*.bias'}
    """
    found: dict[str, str] = {}
    unused = dict.fromkeys(patterns)
    for name in names if patterns else ():
        wholes = [*accumulate(name.split("."), "{}.{}".format)]
        for pattern in patterns:
            if any(fnmatchcase(whole, pattern) for whole in wholes):
                found.setdefault(name, pattern)
                unused.pop(pattern, None)
    if unused:
        example = f", such as `{min(names)}`" if names else ""
        raise InputError(
            f"nothing in {owner} has a name like `{next(iter(unused))}`; leave out what is there{example}."
        )
    return found


def left_out(odd: Collection[str], others: Collection[str] = ()) -> str:
    """Return how to leave out some tensors and none of the others, for a sentence.

    >>> left_out(["head.bias", "head.weight"], ["body.bias"])
    "leave them out (--leave-out 'head.*', in Python leave_out=['head.*'])"
    """
    ends = zip(min(odd).split("."), max(odd).split("."), strict=False)
    prefix = ".".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], ends))
    if len(odd) == 1:
        pattern = next(iter(odd))
    elif prefix and not any(name.startswith(f"{prefix}.") for name in others):
        pattern = f"{prefix}.*"
    else:
        return "leave them out (--leave-out PATTERN for each, in Python leave_out=[...])"
    return f"leave {'it' if len(odd) == 1 else 'them'} out (--leave-out '{pattern}', in Python leave_out=['{pattern}'])"
