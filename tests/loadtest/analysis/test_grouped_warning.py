"""A few lines, however many causes there are."""

from loadtest.analysis.grouped_warning import Affected, GroupedWarning, lines


def warnings(count: int) -> list[GroupedWarning]:
    affected = (Affected("a-x", None, None, "gone"),)
    return [GroupedWarning("objects", f"Cause {i}", "variant", 1, affected, "do this") for i in range(count)]


def test_seven_causes_are_seven_lines() -> None:
    assert len(lines(warnings(7))) == 7
    assert lines(warnings(7))[-1] == "Cause 6 for 1 of 1 variant (a-x, gone): do this"


def test_more_causes_are_still_seven_lines_and_the_last_names_them() -> None:
    said = lines(warnings(9))
    assert len(said) == 7
    assert said[5].startswith("Cause 5 for")
    assert said[6] == "3 more: Cause 6; Cause 7; Cause 8 (see results.json)"
