# SPDX-License-Identifier: MIT
"""Methods are found by what a reader types."""

import pytest

from compendium.study import comparing
from tsvlib.errors import InputError


def test_methods_that_are_known_or_named_twice_come_once() -> None:
    found = comparing.further("iso_cts, tsv-m dare,iso_cts", ["tsv_m"])
    assert [method.name for method in found] == ["iso_cts", "dare"]
    assert comparing.further(" , ", []) == []
    assert [method.name for method in comparing.further("task_arithmetic+svc", ["task_arithmetic"])] == [
        "task_arithmetic+svc"
    ]


def test_an_unknown_method_is_told_with_those_that_there_are() -> None:
    with pytest.raises(InputError, match="no merging method `tsvm`; choose one of weight-averaging"):
        comparing.further("ties, tsvm", [])


def test_where_alpha_is_searched_there_must_be_several() -> None:
    assert comparing.further("weight_averaging", [])
    with pytest.raises(InputError, match="`weight_averaging` has one alpha"):
        comparing.further("ties, weight_averaging", [], searched=True)
