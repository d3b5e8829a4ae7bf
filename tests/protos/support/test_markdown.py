"""Tables in Markdown."""

from protos.support.markdown import table


def test_a_table_has_a_rule_and_its_numbers_to_the_right() -> None:
    assert table(["a", "b"], [["x", 1]], right=1) == "| a | b |\n| --- | ---: |\n| x | 1 |"


def test_a_bar_in_a_cell_ends_no_column() -> None:
    assert table(["a"], [["x|y"]]).splitlines()[-1] == "| x\\|y |"
