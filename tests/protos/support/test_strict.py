"""Dataclasses from JSON: one of several is told by its keys."""

from dataclasses import dataclass

import pytest

from protos.support.strict import decode


@dataclass(frozen=True)
class Near:
    place: int


@dataclass(frozen=True)
class Far:
    place: int
    way: float | None


@dataclass(frozen=True)
class Places:
    all: tuple[Near | Far, ...]


def test_the_keys_tell_which_of_several_it_is() -> None:
    data = {"all": [{"place": 1}, {"place": 2, "way": None}]}
    assert decode(Places, data, "places") == Places((Near(1), Far(2, None)))


def test_keys_of_none_of_them_are_named() -> None:
    with pytest.raises(ValueError, match=r"places.all\[0\]: unknown key 'name', expected one of place"):
        decode(Places, {"all": [{"name": 1}]}, "places")
