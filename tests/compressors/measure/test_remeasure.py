"""What a repository's variants do on this host, beside what their manifests say."""

from dataclasses import replace
from pathlib import Path

import pytest

from compressors.measure import remeasure
from compressors.measure.remeasure import Host
from protos import repository
from protos.manifest import Latency, Variant, to_json
from protos.support import machine
from tests.support import toy

WRONG = [1.0, 5.0, 1.0]
"""Factors with which green always wins: right on the green ones of the toy's test images only."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two runtimes of FP32, and a variant whose answers on this host are not those of its manifest."""
    root = toy.repository(tmp_path)
    toy.publish_variant(root, "onnxruntime", "wrong", WRONG, tolerance=9.0)
    return root


def measured(root: Path) -> Host:
    return remeasure.remeasure(root, "toy", repository.scan(root))


def variants(root: Path) -> list[Variant]:
    return [entry.variant for entry in repository.scan(root) if entry.variant]


def rewritten(root: Path, name: str, **changes: object) -> None:
    """Changes what a published manifest says."""
    (entry,) = [entry for entry in repository.scan(root) if entry.name == name]
    assert entry.variant is not None
    (entry.folder / "manifest.json").write_text(to_json(replace(entry.variant, **changes)))


def test_accuracy_and_latency_are_those_of_this_host(root: Path) -> None:
    found = measured(root).variants
    assert {name: each.quality and each.quality.value for name, each in found.items()} == {
        "fp32-onnxruntime": 0.75,
        "fp32-openvino": 0.75,
        "wrong-onnxruntime": 4 / 12,
    }
    assert all(each.latency and each.latency.samples >= 10 for each in found.values())


def test_manifests_stay_as_they_are_and_the_figures_are_kept_beside_them(root: Path) -> None:
    before = variants(root)
    host = measured(root)
    assert variants(root) == before
    assert remeasure.load(root / "toy", host.machine) == host
    assert remeasure.load(root / "toy", replace(host.machine, cpu="another")) is None


def test_points_that_are_lost_here_are_named(root: Path) -> None:
    host = measured(root)
    assert remeasure.changes(variants(root), host) == [
        "wrong-onnxruntime: 41.7 points lost here (top-1 33.33%, 75.00% where it was built)"
    ]


def test_a_variant_that_is_slower_only_here_is_named(root: Path) -> None:
    """Its manifest and that of the variant that it was made from say otherwise than the host does."""
    (fp32,) = [v for v in variants(root) if v.variant == "fp32-onnxruntime"]
    made = (*fp32.recipe.steps, *fp32.recipe.steps)
    rewritten(root, "wrong-onnxruntime", recipe=replace(fp32.recipe, name="wrong", steps=made), latency=latency(1.0))
    rewritten(root, "fp32-onnxruntime", latency=latency(2.0))
    host = measured(root)
    figures = {"wrong-onnxruntime": 3.0, "fp32-onnxruntime": 2.0}
    slower = {name: replace(host.variants[name], latency=latency(p50)) for name, p50 in figures.items()}
    assert (
        "wrong-onnxruntime: slower than fp32-onnxruntime here (0.67x), 2.00x where it was built"
        in remeasure.changes(variants(root), replace(host, variants={**host.variants, **slower}))
    )


def test_a_variant_that_this_cpu_cannot_take_is_named_with_the_reason(root: Path) -> None:
    rewritten(root, "wrong-onnxruntime", requires=("steam",))
    host = measured(root)
    reason = f"needs a CPU with one of steam, this one has {', '.join(machine.instruction_sets())}"
    assert remeasure.changes(variants(root), host) == [f"wrong-onnxruntime: cannot be used here: {reason}"]
    assert host.variants["fp32-openvino"].failed is None


def test_figures_of_an_older_artifact_do_not_count(root: Path) -> None:
    host = measured(root)
    toy.publish_variant(root, "onnxruntime", "wrong", [1.0, 1.0, 5.0], tolerance=9.0)
    (anew,) = [remeasure.seen_on(host, v) for v in variants(root) if v.variant == "wrong-onnxruntime"]
    assert (anew.quality, anew.latency, anew.notes) == (None, None, ("not measured on this host",))


def test_without_a_test_split_latency_alone_is_measured(root: Path) -> None:
    (root / "toy" / repository.TEST).unlink()
    found = measured(root).variants["fp32-openvino"]
    assert found.quality is None
    assert found.latency is not None


def latency(p50_ms: float) -> Latency:
    return Latency(p50_ms, p95_ms=p50_ms, p99_ms=p50_ms, batch=1, threads=1, samples=1000)
