"""Texts of failed calls: counted, bounded, harmless."""

from loadtest.client.failures import LONGEST_TEXT, MOST_TEXTS, OTHERS, Failure, Tally, merge, plain


def test_equal_texts_of_one_status_are_counted_together_the_most_frequent_first() -> None:
    tally = Tally()
    for status, text in [("A", "full"), ("B", "full"), ("B", "full"), ("B", "gone")]:
        tally.add(status, text)
    assert tally.failures == (Failure("B", "full", 2), Failure("A", "full", 1), Failure("B", "gone", 1))


def test_a_server_that_never_says_the_same_twice_fills_no_file() -> None:
    tally = Tally()
    for number in range(100):
        tally.add("INTERNAL", f"request {number}")
    assert len(tally.failures) == MOST_TEXTS + 1
    assert tally.failures[0] == Failure("INTERNAL", OTHERS, 100 - MOST_TEXTS)


def test_merging_loses_no_call_and_keeps_the_most_frequent_texts() -> None:
    rare = [Failure("A", f"text {number}", 1) for number in range(MOST_TEXTS)]
    merged = merge([*rare, Failure("A", "often", 9), Failure("A", "often", 2)])
    assert merged[0] == Failure("A", "often", 11)
    assert sum(failure.count for failure in merged) == MOST_TEXTS + 11


def test_a_text_is_one_line_of_bounded_length_without_control_characters() -> None:
    assert plain("\x1b[31mred\r\nline") == "[31mred line"
    assert plain("x" * 10_000) == "x" * LONGEST_TEXT + "..."
    assert plain(plain("x" * 10_000)) == plain("x" * 10_000)
