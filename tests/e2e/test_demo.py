"""The README's promise: one command, from data to a served and load-tested comparison on a page."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from protos import repository
from protos.manifest import Preprocessing, RuntimeName, Variant
from protos.preprocessing import normalise
from protos.tensors import decode_response, encode_request
from tests.e2e.conftest import Demo, start_demo, survivors
from tests.support.browser import chromium, open_page
from tests.support.serving import serving

pytestmark = pytest.mark.timeout(1500)

VARIANTS = {f"fp32-{runtime}" for runtime in get_args(RuntimeName)}
VARIANTS |= {"int8-onnxruntime", "int8-openvino", "channels30-onnxruntime", "channels30-int8-openvino"}


@pytest.fixture(scope="module")
def variants(demo: Demo) -> dict[str, Variant]:
    return {entry.name: repository.verify(entry) for entry in repository.scan(demo.models) if entry.model == "digits"}


def test_it_ends_well_and_leaves_no_process_behind(demo: Demo) -> None:
    assert demo.exit_code == 0, demo.stderr
    assert demo.left_running == []


def test_it_builds_every_variant_of_its_study_with_every_figure(variants: dict[str, Variant]) -> None:
    assert variants.keys() == VARIANTS
    for variant in variants.values():
        assert variant.quality is not None
        assert variant.latency is not None
        assert variant.quality.samples == 600


def test_fp32_is_right_on_at_least_97_percent_and_int8_loses_at_most_a_point(variants: dict[str, Variant]) -> None:
    top1 = {name: variant.quality.value for name, variant in variants.items() if variant.quality}
    assert top1["fp32-pytorch"] >= 0.97
    assert {name: value for name, value in top1.items() if "int8" in name and value < top1["fp32-pytorch"] - 0.01} == {}


def test_it_loads_every_variant_without_a_failed_request(demo: Demo) -> None:
    cells = demo.results["cells"]
    assert {(cell["variant"], cell["load"]["level"]) for cell in cells} == {
        (name, users) for name in VARIANTS for users in (1, 8)
    }
    assert [cell["variant"] for cell in cells if cell["failures"] or not cell["requests"]] == []
    assert demo.results["skipped"] == {}


def test_every_variant_answers_as_accurately_over_the_wire_as_its_manifest_says(demo: Demo) -> None:
    checked = demo.results["accuracy"]
    assert {each["variant"] for each in checked} == VARIANTS
    assert {each["samples"] for each in checked} == {600}
    assert [each["variant"] for each in checked if each["quality"] != each["manifest_quality"]] == []


def test_it_prints_the_table_and_where_the_report_lies(demo: Demo) -> None:
    assert [name for name in VARIANTS if name not in demo.stdout] == []
    assert demo.stdout.endswith("\nReport: runs/demo/report.html\n")


@pytest.fixture(scope="module")
def able(demo: Demo) -> set[str]:
    """The variants that keep p99 within 20 ms, top-1 within a point of FP32 and memory within 250 MB, at some load."""
    cells = demo.results["cells"]
    (fp32,) = {cell["facts"]["quality"] for cell in cells if cell["variant"] == "fp32-pytorch"}
    return {
        cell["variant"]
        for cell in cells
        if not cell["failures"]
        and cell["latency_ms"]["p99"] is not None and cell["latency_ms"]["p99"] <= 20
        and cell["facts"]["quality"] >= fp32 - 0.01 - 1e-11 and cell["facts"]["memory_bytes"] <= 250e6
    }  # fmt: skip


def test_it_ships_a_variant_that_meets_all_constraints_or_none_where_none_does(demo: Demo, able: set[str]) -> None:
    (answer,) = re.findall(r"^Ship (?:(nothing)|(\S+)):", demo.stdout, re.MULTILINE)
    others = set(re.findall(r"^  (?:not|close|nearest|runner-up) (\S+):", demo.stdout, re.MULTILINE))
    assert others == VARIANTS - {answer[1]}
    assert answer[1] in able if able else answer[0] == "nothing"


def test_its_report_opens_in_a_browser_without_a_word_in_the_console(demo: Demo, tmp_path: Path) -> None:
    with chromium(tmp_path) as browser:
        text = open_page(browser, demo.run / "report.html")
    shipped = re.search(r"^Ship (\S+-\S+):", demo.stdout, re.MULTILINE)
    assert f"Ship {shipped[1]}" in " ".join(text.split()) if shipped else "No variant meets every limit" in text
    assert [name for name in VARIANTS if name not in text] == []


@pytest.mark.parametrize(
    ("number", "at"),
    [
        (signal.SIGINT, "data set digits"),
        (signal.SIGINT, "serving grpc="),
        (signal.SIGTERM, r"\[[1-9]\d*%\]"),
    ],
    ids=["Ctrl-C in the build", "Ctrl-C while loading", "SIGTERM under load"],
)
def test_an_interruption_stops_everything_it_started(
    demo: Demo, tmp_path: Path, number: signal.Signals, at: str
) -> None:
    process = start_demo(demo.checkout, f"RUN={tmp_path / 'run'}", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    log = []
    for line in process.stderr:
        log.append(line)
        if re.search(at, line):
            os.killpg(process.pid, number)  # what a terminal does at Ctrl-C
            break
    log += process.stderr.readlines()
    process.stderr.close()
    assert process.wait(60) != 0
    assert survivors(process.pid) == []
    assert {path.name for path in tmp_path.iterdir()} <= {"run.partial"}  # what was measured is kept
    if any("serving grpc=" in line for line in log):
        assert any("stopped" in line for line in log), "the server was not given the time to drain"


def test_a_port_in_use_ends_it_with_the_reason(demo: Demo, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        more = f"PORT={taken.getsockname()[1]}", f"RUN={tmp_path / 'run'}"
        process = start_demo(demo.checkout, *more, stderr=subprocess.PIPE)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "is in use" in stderr, stderr
    assert survivors(process.pid) == []


@pytest.fixture(scope="module")
def triton(demo: Demo) -> dict[str, Any]:
    golden = demo.models / "digits" / "golden.npz"
    script = Path(__file__).with_name("tritonclient_session.py")
    with serving(demo.models, "--allow-repository-control") as server:
        command = [sys.executable, str(script), server.grpc_address, "digits", str(golden)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_tritonclient_sees_all_variants_as_versions(triton: dict[str, Any]) -> None:
    assert set(triton["metadata"]["versions"]) == VARIANTS


def test_tritonclient_reads_real_digits_with_every_variant(
    demo: Demo, triton: dict[str, Any], variants: dict[str, Variant]
) -> None:
    test, golden = repository.load_evaluation_set(demo.models, "digits", "classification"), golden_inputs(demo)
    inputs = normalise(test.images, variants["fp32-pytorch"].preprocessing)
    rows = [int(np.flatnonzero((inputs == row).all(axis=(1, 2, 3)))[0]) for row in golden]
    labels = test.truth["labels"][rows]
    assert triton["answers"].keys() == VARIANTS | {""}
    for asked, answer in triton["answers"].items():
        assert answer["variant"] == (asked or repository.default_variant(demo.models, "digits"))
        assert np.mean(np.array(answer["labels"]) == labels) >= 15 / 16


def test_digits_as_pixels_and_as_png_files_give_the_answers_of_their_tensors(
    demo: Demo, variants: dict[str, Variant]
) -> None:
    golden = golden_inputs(demo)
    with serving(demo.models) as server, server.stub() as stub:

        def logits(variant: str, array: np.ndarray) -> np.ndarray:
            request = encode_request("digits", variant, {"input": array})
            return decode_response(stub.ModelInfer(request, timeout=60))["logits"]

        for name, variant in variants.items():
            pixels = as_pixels(golden, variant.preprocessing)
            files = np.array([as_png(image) for image in pixels], np.object_)
            expected = logits(name, golden)
            np.testing.assert_allclose(logits(name, pixels), expected, atol=1e-4)
            np.testing.assert_array_equal(logits(name, files), logits(name, pixels))


def golden_inputs(demo: Demo) -> np.ndarray:
    (inputs,) = repository.load_golden(demo.models, "digits").inputs.values()
    return inputs


def as_pixels(tensors: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """The uint8 images (N, H, W, 3) that the tensors were made from."""
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    scaled = (tensors * std + mean) * 255
    pixels = scaled.round()
    assert np.abs(pixels - scaled).max() < 1e-3
    return pixels.transpose(0, 2, 3, 1).astype(np.uint8)


def as_png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
