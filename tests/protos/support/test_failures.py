"""Failures: the telling line of a text, and whether it holds a path of this machine."""

from pathlib import Path

import pytest

from protos.support.failures import has_path, telling_line, without_paths


@pytest.mark.parametrize("text", ["no channel left", "no channel left\nand more", "\n\n  no channel left\n"])
def test_a_text_that_begins_with_its_cause_is_told_by_its_first_line(text: str) -> None:
    assert telling_line(ValueError(text)) == "no channel left"


def test_an_error_without_a_text_is_told_by_its_kind() -> None:
    assert telling_line(NotImplementedError()) == "NotImplementedError"


def test_a_text_of_introductions_alone_is_told_by_the_first() -> None:
    assert telling_line(RuntimeError("Exception from src/core.cpp:84:\n\n")) == "Exception from src/core.cpp:84:"


def test_colours_are_left_out() -> None:
    assert telling_line(RuntimeError("\x1b[1;96mno\x1b[0m channel")) == "no channel"


@pytest.mark.parametrize("form", ["cannot read {}", 'cannot read "{}"', "Load failed:{}: no", "at file://{}", "({})"])
def test_a_path_of_this_machine_is_found_and_left_out(tmp_path: Path, form: str) -> None:
    line = form.format(tmp_path / "model.xml")
    assert has_path(line)
    assert str(tmp_path) not in without_paths(line)
    assert "model.xml" in without_paths(line)
    assert not has_path(without_paths(line))


@pytest.mark.parametrize(
    "line", ["Node (/conv1/Conv) Op (Conv)", "step 1/3", "see https://example.org/tmp/x", "src/a.h:5"]
)
def test_names_and_addresses_are_no_paths(line: str) -> None:
    assert not has_path(line)
    assert without_paths(line) == line
