"""What the doctor says at its end: what did not pass by server, model and variant, and whether a load test would."""

from dataclasses import replace

import pytest

from loadtest.doctor.findings import Diagnosis, lines, make_finding

FAILS = make_finding("digits/1", "rows of a request", "fails", "1, 2 answered; 8: INTERNAL", "requests of 8 rows fail")
FOUND = Diagnosis(
    target="127.0.0.1:8001",
    server="other 1.0",
    way_in="",
    model="digits",
    ready_for_load=True,
    findings=(
        make_finding("server", "ServerLive", "ok", "yes"),
        make_finding("server", "reflection", "absent", "UNIMPLEMENTED"),
        make_finding("digits", "ModelMetadata", "ok", "takes x FP32 [-1, 3]"),
        FAILS,
        make_finding("digits/1", "ModelInfer", "ok", "answered"),
    ),
)
WHOLE = replace(FOUND, findings=tuple(each for each in FOUND.findings if each is not FAILS))


def test_what_passed_is_a_count_and_the_rest_is_named_with_what_it_means() -> None:
    assert [*lines(FOUND)] == [
        "other 1.0 on 127.0.0.1:8001",
        "server: 1 of 2 checks passed",
        "  absent  reflection: UNIMPLEMENTED",
        "digits: 1 of 1 checks passed",
        "digits/1: 1 of 2 checks passed",
        "  fails   rows of a request: 1, 2 answered; 8: INTERNAL",
        "          so requests of 8 rows fail",
        "Ready for a load test, but 1 of 5 checks would fail",
    ]


def test_the_way_in_of_our_own_server_stands_in_the_first_line() -> None:
    own = replace(FOUND, server="paretoserve 0.1.0", way_in="ModelInfer by pygrpc-native")
    assert next(lines(own)) == "paretoserve 0.1.0 on 127.0.0.1:8001, ModelInfer by pygrpc-native"


def test_verbose_names_what_passed_too() -> None:
    assert [line for line in lines(FOUND, verbose=True) if line.startswith("  ok")] == [
        "  ok      ServerLive: yes",
        "  ok      ModelMetadata: takes x FP32 [-1, 3]",
        "  ok      ModelInfer: answered",
    ]


@pytest.mark.parametrize(
    ("diagnosis", "verdict"),
    [
        (WHOLE, "Ready for a load test"),
        (FOUND, "Ready for a load test, but 1 of 5 checks would fail"),
        (replace(FOUND, ready_for_load=False), "A load test would fail: 1 of 5 checks"),
    ],
)
def test_the_last_line_is_the_verdict(diagnosis: Diagnosis, verdict: str) -> None:
    assert [*lines(diagnosis)][-1] == verdict
