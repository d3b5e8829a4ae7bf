"""The variant to ship from a real server's repository in which the right answer is known by construction."""

import dataclasses
import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from loadtest.access import Access
from loadtest.analysis.results import Results, load_results
from loadtest.decision.decision import LoadDecision, decide
from protos import repository
from protos.manifest import Footprint, Variant
from tests.support import toy
from tests.support.loadtest.runs import LOADTEST, flags
from tests.support.serving import ROOT, serving

PLAIN, DELAYED = "fp32-onnxruntime", "delayed-onnxruntime"
DULL, LARGE = "dull-onnxruntime", "large-onnxruntime"

WIDTH = 512
"""Width of the matrices that a delayed variant multiplies: milliseconds of work, for an answer that stays the same."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Results:
    root = toy.repository(tmp_path_factory.mktemp("models"), ("onnxruntime",))
    folder = root / toy.MODEL / PLAIN
    plain = repository.verify(repository.read_entry(folder))
    quality = plain.quality
    assert quality
    small = Footprint(gzip_bytes=1, load_peak_bytes=50_000_000)
    publish(root, folder, replace(plain, footprint=small))
    dull = replace(quality, value=0.5, interval=(0.25, 0.75), drop_interval=(0.125, 0.375))
    publish(root, folder, replace(plain, variant=DULL, quality=dull, footprint=small))
    publish(root, folder, replace(plain, variant=LARGE, footprint=replace(small, load_peak_bytes=900_000_000)))
    slow = tmp_path_factory.mktemp("slow")
    delay(folder / plain.entry, slow / plain.entry)
    publish(root, slow, replace(plain, variant=DELAYED, files=repository.describe_files(slow), footprint=small))
    out = tmp_path_factory.mktemp("runs") / "run"
    with serving(root) as server:
        given = flags(server, root, out, "--users", "1", "--duration", "0.6", "--ceiling", "0")
        done = subprocess.run([*LOADTEST, *given], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return load_results(out / "results.json")


def publish(root: Path, files: Path, variant: Variant) -> None:
    """As its recipe is named; the artifact is in `files`."""
    recipe = variant.variant.rpartition("-")[0]
    repository.publish(root, replace(variant, recipe=replace(variant.recipe, name=recipe)), files)


def delay(source: Path, target: Path) -> None:
    """The same graph, with products of matrices before it whose sum is multiplied by zero and added to its answer."""
    model = onnx.load(source)
    graph, matrix = model.graph, np.full((WIDTH, WIDTH), 1 / WIDTH, np.float32)
    graph.initializer.append(numpy_helper.from_array(matrix, "matrix"))
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "nothing"))
    graph.output[0].name, answer = "logits", "answer"
    for node in graph.node:
        node.output[:] = [answer if name == "logits" else name for name in node.output]
    product = "one_by_one"
    graph.node.append(helper.make_node("ReduceMean", [answer], ["mean"], keepdims=0))
    graph.node.append(helper.make_node("Mul", ["matrix", "mean"], [product]))
    for i in range(8):
        graph.node.append(helper.make_node("MatMul", [product, "matrix"], [f"product{i}"]))
        product = f"product{i}"
    graph.node.append(helper.make_node("ReduceMean", [product], ["all"], keepdims=0))
    graph.node.append(helper.make_node("Mul", ["all", "nothing"], ["zero"]))
    graph.node.append(helper.make_node("Add", [answer, "zero"], ["logits"]))
    onnx.checker.check_model(model)
    assert graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    onnx.save(model, target)


def shown(run: Results, **constraints: float) -> LoadDecision:
    answer = decide(replace(run, plan=replace(run.plan, **constraints))).shown
    assert answer
    return answer


def test_each_set_of_constraints_ships_the_variant_that_was_built_for_it(run: Results) -> None:
    rps = {cell.variant: cell.throughput_rps for cell in run.cells}
    between = (rps[DELAYED] * min(rps[PLAIN], rps[LARGE], rps[DULL])) ** 0.5
    sets: list[tuple[dict[str, float], set[str | None]]] = [
        ({"max_drop": 1.0, "max_memory": 100.0}, {PLAIN}),
        ({"max_drop": 1.0, "max_memory": 100.0, "rate": between}, {PLAIN}),
        ({"max_drop": 1.0}, {PLAIN, LARGE}),
        ({"max_memory": 100.0}, {PLAIN, DULL}),
        ({"rate": between}, {PLAIN, LARGE, DULL}),
        ({"p99": 1e-3}, {None}),
        ({"rate": 1e6}, {None}),
        ({"max_drop": 1.0, "max_memory": 10.0}, {None}),
    ]
    for constraints, right in sets:
        answer = shown(run, **constraints)
        assert (answer.winner and answer.winner.variant) in right, constraints


def test_the_delayed_variant_is_clearly_beaten_by_the_plain_one(run: Results) -> None:
    standings = {each.variant: each for each in shown(run, max_drop=1.0, max_memory=100.0).standings}
    assert standings[DELAYED].place == "runner-up"
    assert standings[DELAYED].reasons[0].endswith(", clear")


def test_each_loser_broke_the_constraint_that_it_was_built_to_break(run: Results) -> None:
    rps = {cell.variant: cell.throughput_rps for cell in run.cells}
    rate = (rps[DELAYED] * rps[PLAIN]) ** 0.5
    reasons = {each.variant: each.reasons for each in shown(run, max_drop=1.0, max_memory=100.0, rate=rate).losers}
    assert reasons[DULL][-1] == "top-1 is 25.00 points below FP32, 24.00 more than the 1 allowed"
    assert reasons[LARGE][-1] == "900.0 MB of memory, 800.0 more than the 100 allowed"
    short = f"{rate - rps[DELAYED]:,.0f} fewer than the {rate:g} asked for"
    assert reasons[DELAYED] == (f"{rps[DELAYED]:,.0f} requests/s at 1 user, {short}",)


def test_the_intervals_are_those_of_the_manifest(run: Results) -> None:
    known = {cell.variant: (cell.facts.quality_interval, cell.facts.drop_interval) for cell in run.cells}
    assert (known[DULL], known[PLAIN]) == (((0.25, 0.75), (0.125, 0.375)), (None, None))


def test_results_come_back_from_disk(run: Results, tmp_path: Path) -> None:
    run.save(tmp_path / "results.json")
    assert load_results(tmp_path / "results.json") == run
    assert json.loads(run.to_json())["cells"][0]["load"] == {"scenario": "closed", "level": 1}


def test_results_from_before_there_were_texts_of_failures_and_flags_of_access_are_read(
    run: Results, tmp_path: Path
) -> None:
    document = json.loads(run.to_json())
    for cell in document["cells"]:
        del cell["failure_texts"]
    for flag in dataclasses.fields(Access):
        del document["plan"][flag.name]
    (tmp_path / "results.json").write_text(json.dumps(document))
    assert load_results(tmp_path / "results.json") == run
