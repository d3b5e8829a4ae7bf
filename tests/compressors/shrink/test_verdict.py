"""The verdict: which variant it speaks of, whether it is as asked for, and how sure that is."""

from dataclasses import replace
from pathlib import Path

import pytest

from compressors.shrink.verdict import Asked, Verdict, to_beat, verdict
from protos.manifest import Latency, Quality, Variant
from tests.support.compressors import artifacts

ASKED = Asked(most_ms=0.05, max_drop=1.0)


def measured(name: str, p50_ms: float, top1: float, interval: tuple[float, float] = (-0.001, 0.008)) -> Variant:
    quality = Quality("top1", top1, "photos test", 10_000, parent=0.8, fp32=0.8, agreement=0.9, drop_interval=interval)
    described = artifacts.described(Path("nowhere"), "onnxruntime", "model.onnx")
    return replace(described, variant=name, quality=quality, latency=Latency(p50_ms, batch=1, threads=1, samples=300))


INT8 = measured("int8-onnxruntime", 0.24, 0.799)


def test_the_fastest_of_the_users_own_that_lost_little_is_to_be_beaten() -> None:
    fp32, ruined = measured("fp32-onnxruntime", 0.5, 0.8), measured("int8-openvino", 0.2, 0.7)
    assert to_beat([fp32, INT8, ruined], max_drop=1.0) == INT8
    assert to_beat([fp32, ruined], max_drop=1.0) == fp32


def test_the_fastest_that_is_as_asked_for_is_found() -> None:
    students = [measured("a", 0.04, 0.796), measured("b", 0.03, 0.797), measured("c", 0.02, 0.5)]
    assert verdict(students, INT8, ASKED) == Verdict(
        True,
        "Found: b is 8.0 times faster than int8-onnxruntime (0.030 ms, 0.240), and loses 0.30 points of top1"
        " (95%: -0.10 to +0.80 points below FP32). That it is within 1 point is sure at 95%.",
    )


def test_too_few_images_to_be_sure_are_said() -> None:
    said = verdict([measured("a", 0.03, 0.797, (-0.02, 0.03))], INT8, ASKED)
    assert said.found
    assert said.text.endswith("10000 test images are too few to be sure that it is within 1 point.")


def test_a_student_that_is_better_gains() -> None:
    assert "and gains 0.50 points of top1" in verdict([measured("a", 0.03, 0.805)], INT8, ASKED).text


@pytest.mark.parametrize(
    ("students", "said"),
    [
        ([measured("a", 0.04, 0.75), measured("b", 0.03, 0.72)], "a is 6.0 times"),  # fast: the most accurate
        ([measured("a", 0.06, 0.79), measured("b", 0.07, 0.795)], "a is 4.0 times"),  # none fast: the fastest
    ],
)
def test_without_one_as_asked_for_the_nearest_is_told(students: list[Variant], said: str) -> None:
    assert verdict(students, INT8, ASKED).text.startswith(f"Not found. The nearest: {said}")


def test_what_the_nearest_misses_is_told() -> None:
    text = verdict([measured("a", 0.06, 0.75)], INT8, ASKED).text
    assert ": 0.050 ms were asked for, more than --max-drop 1. A smaller --faster may find one." in text
    assert verdict([], INT8, ASKED) == Verdict(False, "Not found: no variant of the student could be built.")
