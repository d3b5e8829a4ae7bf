"""Accuracy over the wire: figures worked out by hand, every flip listed, what fails counted once."""

import itertools
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from loadtest.client.discovery import list_variants
from loadtest.client.failures import Failure
from loadtest.client.oip import Client
from loadtest.interrupt import Interrupted
from loadtest.measure.accuracy import Accuracy, Check, check_accuracy, prepare
from loadtest.tasks.classification import ClassFlip
from protos import repository as stored
from protos.errors import UsageError
from protos.manifest import from_json, to_json
from protos.repository import drawn
from protos.support.significance import paired_drop_interval, share_interval
from protos.tensors import decode_request, encode_response
from protos.v1 import inference_pb2 as pb
from tests.support import toy
from tests.support.loadtest.foreign import Answer, ForeignServer, foreign
from tests.support.serving import ROOT, ServerProcess, serving

FP32, BLUE = "fp32-onnxruntime", "blue-onnxruntime"
DEADLINE = 20.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`toy`, and a variant of it in which blue counts half as much again: more than green where that is strongest."""
    root = toy.repository(tmp_path_factory.mktemp("models"), ("onnxruntime",))
    toy.publish_variant(root, "onnxruntime", "blue", factor=[2.0, 2.0, 3.0], tolerance=10.0)
    return root


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[ServerProcess]:
    with serving(models) as process:
        yield process


@pytest.fixture(scope="module")
def served(server: ServerProcess) -> dict[str, pb.ModelMetadataResponse]:
    client = Client(server.grpc_address, DEADLINE)
    try:
        return dict(list_variants(client, toy.MODEL).ready)
    finally:
        client.close()


@pytest.fixture(scope="module")
def checks(models: Path, served: dict[str, pb.ModelMetadataResponse]) -> dict[str, Check]:
    return prepare(models, toy.MODEL, served)


@pytest.mark.parametrize(("clients", "rows"), [(1, 12), (3, 1), (2, 5)])
def test_a_variant_that_answers_as_measured_holds(
    server: ServerProcess, checks: dict[str, Check], clients: int, rows: int
) -> None:
    found = check_accuracy(server.grpc_address, checks[FP32], clients, rows, DEADLINE)
    known = Accuracy(FP32, 12, "top1", 0.75, 0.75, flips=(), failures={}, first_failure=None)
    assert found == replace(known, interval=share_interval(9, 12), drop_interval=paired_drop_interval(0, 0, 12))
    assert found.holds


def test_every_prediction_that_flips_is_listed_and_top_1_is_what_the_server_answers(
    server: ServerProcess, checks: dict[str, Check]
) -> None:
    found = check_accuracy(server.grpc_address, checks[BLUE], 2, 5, DEADLINE)
    assert found.flips == (ClassFlip(1, 1, 1, 2), ClassFlip(4, 1, 1, 2), ClassFlip(7, 2, 1, 2), ClassFlip(10, 1, 1, 2))
    assert (found.lost, found.gained) == (3, 1)
    assert (found.samples, found.quality, found.manifest_quality) == (12, 7 / 12, 0.75)
    assert (found.interval, found.drop_interval) == (share_interval(7, 12), paired_drop_interval(3, 1, 12))
    assert not found.holds


def test_accuracy_of_a_part_is_checked_on_that_part(
    models: Path, server: ServerProcess, served: dict[str, pb.ModelMetadataResponse], tmp_path: Path
) -> None:
    """As a build has it that had no time for all images; flips are named by their places in the whole split."""
    root = Path(shutil.copytree(models, tmp_path / "models"))
    rows = sorted(drawn(12)[:8].tolist())
    test = toy.evaluation_set()
    fp32 = float((test.reference["best"][rows, 0] == test.truth["labels"][rows]).mean())
    path = root / toy.MODEL / BLUE / "manifest.json"
    manifest = from_json(path.read_text())
    assert manifest.quality is not None
    path.write_text(to_json(replace(manifest, quality=replace(manifest.quality, samples=8, fp32=fp32))))
    found = check_accuracy(server.grpc_address, prepare(root, toy.MODEL, served)[BLUE], 1, 8, DEADLINE)
    assert found.samples == 8
    assert {flip.index for flip in found.flips} == {1, 4, 7, 10} & {*rows}
    assert 0 < len(found.flips) < 4


def right(request: pb.ModelInferRequest, _: grpc.ServicerContext) -> pb.ModelInferResponse:
    logits = toy.answer(decode_request(request)["input"])
    return encode_response(toy.MODEL, request.model_version, {"logits": logits})


def asked(answer: Answer, check: Check, rows: int = 3, clients: int = 2) -> tuple[Accuracy, ForeignServer]:
    """What is found of a server that answers like this."""
    with foreign(answer=answer) as server:
        return check_accuracy(server.address, check, clients, rows, DEADLINE), server


def test_the_whole_test_split_is_sent_once_as_the_tensors_of_its_pixels(checks: dict[str, Check]) -> None:
    _, server = asked(right, checks[FP32], rows=5)
    came = [decode_request(request)["input"] for request in server.requests]
    assert sorted(map(len, came)) == [2, 5, 5]
    pixels = toy.evaluation_set().images.transpose(0, 3, 1, 2)
    expected = {image.tobytes() for image in pixels.astype(np.float32) / np.float32(255)}
    assert {image.tobytes() for batch in came for image in batch} == expected


def test_a_request_that_fails_is_counted_and_not_sent_again(checks: dict[str, Check]) -> None:
    def full_once(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        if next(turn) == 1:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no room")
        return right(request, context)

    turn = itertools.count()
    found, server = asked(full_once, checks[FP32])
    assert len(server.requests) == 4
    assert (found.failures, found.first_failure) == ({"RESOURCE_EXHAUSTED": 1}, "RESOURCE_EXHAUSTED: no room")
    assert (found.samples, found.flips) == (9, ())
    assert not found.holds


def test_without_any_answer_there_is_no_top_1(checks: dict[str, Check]) -> None:
    def never(_: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        raise AssertionError

    found, _ = asked(never, checks[FP32])
    assert (found.samples, found.quality, found.failures) == (0, None, {"UNAVAILABLE": 4})
    assert found.failure_texts == (Failure("UNAVAILABLE", "draining", 4),)


def test_right_classes_do_not_make_up_for_a_request_that_failed() -> None:
    assert not Accuracy(FP32, 8, "top1", 0.75, 0.75, (), {"UNAVAILABLE": 1}, "UNAVAILABLE: gone").holds


def test_contents_that_do_not_fit_their_headers_are_a_wrong_answer(checks: dict[str, Check]) -> None:
    def short(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        response = right(request, context)
        del response.raw_output_contents[:]
        response.outputs[0].contents.fp32_contents.append(1.0)
        return response

    found, _ = asked(short, checks[FP32])
    assert found.failures == {"WRONG_ANSWER": 4}
    assert "got 1 values, expected 9 for shape [3, 3]" in str(found.first_failure)


def together(parties: int) -> Answer:
    """Answers once so many requests are there at the same time."""
    barrier = threading.Barrier(parties)

    def answer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        barrier.wait(DEADLINE / 2)
        return right(request, context)

    return answer


def test_clients_ask_at_the_same_time(checks: dict[str, Check]) -> None:
    found, _ = asked(together(3), checks[FP32], rows=2, clients=3)
    assert found.holds


UNDER_LOCUST = """
import loadtest.users.users, gevent.monkey, json, sys
from pathlib import Path
from typing import Any
from loadtest.measure.accuracy import check_accuracy, prepare
from protos.v1 import inference_pb2 as pb

metadata = pb.ModelMetadataResponse.FromString(bytes.fromhex(sys.argv[3]))
check = prepare(Path(sys.argv[2]), "toy", {"fp32-onnxruntime": metadata})["fp32-onnxruntime"]
found = check_accuracy(sys.argv[1], check, 3, 2, 20.0)
print(json.dumps([gevent.monkey.is_module_patched("threading"), found.holds, found.first_failure]))
"""


def test_under_locust_the_clients_are_greenlets_that_ask_at_the_same_time(
    models: Path, served: dict[str, pb.ModelMetadataResponse]
) -> None:
    with foreign(answer=together(3)) as server:
        arguments = [server.address, str(models), served[FP32].SerializeToString().hex()]
        command = [sys.executable, "-c", UNDER_LOCUST, *arguments]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout) == [True, True, None]


def test_an_interruption_lets_calls_under_way_end_and_sends_no_others(checks: dict[str, Check]) -> None:
    came = threading.Event()

    def hang(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        ended = threading.Event()
        context.add_callback(ended.set)
        came.set()
        ended.wait(DEADLINE)
        return right(request, context)

    def interrupted(_: float) -> None:
        assert came.wait(DEADLINE)
        raise Interrupted(2)

    with foreign(answer=hang) as server:
        with pytest.raises(Interrupted):
            check_accuracy(server.address, checks[FP32], 2, 1, 0.5, interrupted)
        assert len(server.requests) <= 2  # of 12


def keep(folder: Path, **changes: Any) -> None:
    """Saves another test split of the model in `folder`."""
    stored.save_evaluation_set(folder.parent, toy.MODEL, replace(toy.evaluation_set(), **changes))


def without_quality(folder: Path) -> None:
    manifest = folder / FP32 / "manifest.json"
    manifest.write_text(to_json(replace(from_json(manifest.read_text()), quality=None)))


EARLIER = vars(toy.evaluation_set().take(np.arange(8)))
LARGER = np.zeros((12, 5, 6, 3), np.uint8)
SPOILT = {
    "no test split": (lambda f: (f / "test.npz").unlink(), "'test.npz' of model 'toy' is missing"),
    "a damaged test split": (lambda f: (f / "test.npz").write_bytes(b"PK"), "'test.npz' of model 'toy' cannot be read"),
    "no manifest": (
        lambda f: (f / FP32 / "manifest.json").unlink(),
        "accuracy of 'toy/fp32-onnxruntime' cannot be checked: 'manifest.json' is missing",
    ),
    "no quality": (without_quality, "its manifest has no quality"),
    "no variant": (lambda f: shutil.rmtree(f / FP32), "does not hold it"),
    "no repository": (lambda f: shutil.rmtree(f.parent), "does not hold it"),
    "another test split": (
        lambda f: keep(f, **EARLIER),
        "'test.npz' holds 8 images with top-1 75.00% of FP32, the manifest was measured on 12 with 75.00%",
    ),
    "other labels": (
        lambda f: keep(f, truth={"labels": np.zeros(12, np.int64)}),
        "'test.npz' holds 12 images with top-1 33.33% of FP32, the manifest was measured on 12 with 75.00%",
    ),
    "images of another size": (
        lambda f: keep(f, images=LARGER),
        "the server takes 'input' FP32 [-1, 3, 4, 4] and gives 'logits' FP32 [-1, 3],"
        " expected 'input' FP32 [-1, 3, 5, 6] and 'logits' FP32 [-1, 3]",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=SPOILT.keys())
def test_what_cannot_be_checked_is_refused_in_one_line_before_anything_is_sent(
    tmp_path: Path,
    served: dict[str, pb.ModelMetadataResponse],
    spoil: Callable[[Path], object],
    message: str,
) -> None:
    root = toy.repository(tmp_path / "models", ("onnxruntime",))
    spoil(root / toy.MODEL)
    with pytest.raises(UsageError, match="cannot be checked") as error:
        prepare(root, toy.MODEL, {FP32: served[FP32]})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_whose_name_is_no_folders_is_not_in_the_repository(
    models: Path, served: dict[str, pb.ModelMetadataResponse]
) -> None:
    with pytest.raises(UsageError, match=r"accuracy of '\.\./toy/fp32-onnxruntime' cannot be checked: repository"):
        prepare(models, "../toy", {FP32: served[FP32]})
