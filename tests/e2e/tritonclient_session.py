"""What an unmodified `tritonclient.grpc` sees of a server, as one JSON document. Run as a process of its own:

    python tritonclient_session.py HOST:PORT MODEL golden.npz [ROOT.crt [CLIENT.key CLIENT.crt]]    # TLS, mutual TLS

The same server is also asked for its health, by the stubs of grpcio-health-checking.

tritonclient registers the same protobuf package as `protos.v1`, so one process cannot import both.
"""

import asyncio
import io
import json
import queue
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc
import numpy as np
from google.protobuf.descriptor import Descriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from tritonclient.grpc import (
    InferenceServerClient,
    InferInput,
    InferRequestedOutput,
    InferResult,
    aio,
    model_config_pb2,
    service_pb2,
)
from tritonclient.utils import InferenceServerException

STREAMED = 50
"""Requests of one stream; every tenth names a variant that does not exist."""


def tensor(array: np.ndarray, shape: tuple[int, ...] | None = None, datatype: str = "FP32") -> InferInput:
    """An input that holds the bytes of `array`, and claims `shape` and `datatype`."""
    claimed = InferInput("input", list(array.shape if shape is None else shape), datatype)
    claimed._raw_content = array.tobytes()  # set_data_from_numpy would refuse what the server is to refuse
    return claimed


def resized(array: np.ndarray, change: Callable[[bytes], bytes]) -> InferInput:
    """An input whose bytes are not those of its shape."""
    claimed = tensor(array)
    claimed._raw_content = change(claimed._raw_content)
    return claimed


def raw_and_typed(array: np.ndarray) -> InferInput:
    both = tensor(array)
    both._input.contents.fp32_contents.extend(array.ravel())
    return both


def shared(tensor: InferInput | InferRequestedOutput) -> InferInput | InferRequestedOutput:
    """The same tensor, its contents in a region of shared memory."""
    tensor.set_shared_memory("region", 4096)
    return tensor


def statuses(client: InferenceServerClient, model: str, x: np.ndarray) -> dict[str, list[str]]:
    """The status and the text of each request that does not fit."""
    n, c, h, w = x.shape
    cases = {
        "unknown model": lambda: client.infer("nope", [tensor(x)]),
        "unknown variant": lambda: client.infer(model, [tensor(x)], "nope"),
        "wrong dtype": lambda: client.infer(model, [tensor(x.astype(np.float64), datatype="FP64")]),
        "wrong rank": lambda: client.infer(model, [tensor(x, (n, c, h * w))]),
        "wrong dim": lambda: client.infer(model, [tensor(x, (n, c, h * 2, w // 2))]),
        "one byte too few": lambda: client.infer(model, [resized(x, lambda raw: raw[:-1])]),
        "one byte too many": lambda: client.infer(model, [resized(x, lambda raw: raw + b"\0")]),
        "raw and typed together": lambda: client.infer(model, [raw_and_typed(x)]),
        "two inputs of one name": lambda: client.infer(model, [tensor(x), tensor(x)]),
        "negative dim": lambda: client.infer(model, [tensor(x, (-n, c, h, w))]),
        "huge dim": lambda: client.infer(model, [tensor(x, (2**62, c, h, w))]),
        "unknown output": lambda: client.infer(model, [tensor(x)], outputs=[InferRequestedOutput("nope")]),
        "input in shared memory": lambda: client.infer(model, [shared(tensor(x))]),
        "output in shared memory": lambda: client.infer(
            model, [tensor(x)], outputs=[shared(InferRequestedOutput("logits"))]
        ),
        "shared memory": lambda: client.register_system_shared_memory("region", "/region", 4096),
        "fewer than no classes": lambda: client.infer(model, [tensor(x)], outputs=[InferRequestedOutput("logits", -1)]),
    }
    return {name: status(call) for name, call in cases.items()}


def status(call: Callable[[], object]) -> list[str]:
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return ["StatusCode.OK", ""]


def infer(client: InferenceServerClient, model: str, variant: str, x: np.ndarray) -> dict[str, object]:
    """Who answered, and the labels."""
    image = InferInput("input", list(x.shape), "FP32").set_data_from_numpy(x)
    result = client.infer(model, [image], variant, request_id="an id")
    response = result.get_response(as_json=True)
    labels = result.as_numpy("logits").argmax(axis=1).tolist()
    return {"variant": response["model_version"], "id": response["id"], "labels": labels}


def classes(client: InferenceServerClient, model: str, x: np.ndarray, count: int) -> list[list[str]]:
    """Triton's top-k, as strings of value, index and label."""
    image = InferInput("input", list(x.shape), "FP32").set_data_from_numpy(x)
    result = client.infer(model, [image], outputs=[InferRequestedOutput("logits", class_count=count)])
    return [[text.decode() for text in row] for row in result.as_numpy("logits")]


def image_labels(client: InferenceServerClient, model: str) -> dict[str, list[list[float]]]:
    """The answers to the same two images as pixels and as PNG files."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), np.uint8)
    files = np.array([png(image) for image in pixels], np.object_)
    inputs = {
        "UINT8": InferInput("input", list(pixels.shape), "UINT8").set_data_from_numpy(pixels),
        "BYTES": InferInput("input", list(files.shape), "BYTES").set_data_from_numpy(files),
    }
    return {kind: client.infer(model, [image]).as_numpy("logits").tolist() for kind, image in inputs.items()}


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def variant_of(number: int, variants: list[str]) -> str:
    """The variant that the request of a stream asks for."""
    return "nope" if number % 10 == 9 else variants[number % len(variants)]


def image(x: np.ndarray) -> InferInput:
    return InferInput("input", list(x.shape), "FP32").set_data_from_numpy(x)


def answer(result: InferResult) -> list[object]:
    """Id, variant and labels of one answer of a stream."""
    response = result.get_response()
    return [response.id, response.model_version, result.as_numpy("logits").argmax(axis=1).tolist()]


def streamed(client: InferenceServerClient, model: str, variants: list[str], x: np.ndarray) -> dict[str, object]:
    """What a stream of the synchronous client answered, and the errors on it."""
    came: queue.Queue[tuple[InferResult | None, InferenceServerException | None]] = queue.Queue()
    client.start_stream(lambda result, error: came.put((result, error)))
    for number in range(STREAMED):
        client.async_stream_infer(model, [image(x)], variant_of(number, variants), request_id=str(number))
    outcomes = [came.get(timeout=60) for _ in range(STREAMED)]
    client.stop_stream()
    return {
        "answers": sorted((answer(result) for result, _ in outcomes if result), key=lambda row: int(str(row[0]))),
        "errors": [error.message() for _, error in outcomes if error],
    }


def controlled(client: InferenceServerClient, model: str) -> dict[str, object]:
    """What an unload and a load change."""

    def index() -> list[dict[str, str]]:
        rows: list[dict[str, str]] = client.get_model_repository_index(as_json=True).get("models", [])
        return rows

    before = index()
    client.unload_model(model)
    unloaded, ready = index(), client.is_model_ready(model)
    client.load_model(model)
    return {
        "before": before,
        "unloaded": unloaded,
        "ready while unloaded": ready,
        "loaded": index(),
        "ready once loaded": client.is_model_ready(model),
        "load of a path": status(lambda: client.load_model("../" + model)),
        "load of a config": status(lambda: client.load_model(model, config="{}")),
    }


def security(files: tuple[str, ...]) -> dict[str, object]:
    """What tritonclient's clients are told of the files of TLS: the root, the client's key, its certificate."""
    root, key, certificate = (*files, None, None, None)[:3]
    return {"ssl": bool(files), "root_certificates": root, "private_key": key, "certificate_chain": certificate}


def health(address: str, model: str, variants: list[str], files: tuple[str, ...]) -> dict[str, str]:
    """What a health probe is told of each service, and of one that is none: a status, or the code of an error."""
    if files:
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(*(Path(f).read_bytes() for f in files)))
    else:
        channel = grpc.insecure_channel(address)
    told = {}
    with channel:
        for service in ("", model, *(f"{model}/{name}" for name in variants), "nope"):
            try:
                request = health_pb2.HealthCheckRequest(service=service)
                answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=20)
                told[service] = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
            except grpc.RpcError as error:
                told[service] = error.code().name
    return told


async def asynchronous(
    address: str, files: tuple[str, ...], model: str, variants: list[str], x: np.ndarray
) -> dict[str, object]:
    """The same server as the asyncio client sees it."""

    async def requests() -> AsyncIterator[dict[str, object]]:
        for number in range(STREAMED):
            variant = variant_of(number, variants)
            yield {"model_name": model, "inputs": [image(x)], "model_version": variant, "request_id": str(number)}

    async with aio.InferenceServerClient(address, **security(files)) as client:
        result = await client.infer(model, [image(x)], request_id="an id")
        outcomes = [outcome async for outcome in client.stream_infer(requests())]
        return {
            "live": await client.is_server_live(),
            "infer": answer(result),
            "config": (await client.get_model_config(model, as_json=True))["config"]["name"],
            "answers": sorted((answer(result) for result, _ in outcomes if result), key=lambda row: int(str(row[0]))),
            "errors": [error.message() for _, error in outcomes if error],
        }


def wire_format() -> dict[str, dict[str, object]]:
    """Of each message its fields with number, type and cardinality, of each enum its values: as it is on the wire."""
    formats: dict[str, dict[str, object]] = {}

    def add(message: Descriptor) -> None:
        formats[message.full_name] = {
            field.name: [field.number, field.type, field.is_repeated] for field in message.fields
        }
        for enum in message.enum_types:
            formats[enum.full_name] = {value.name: value.number for value in enum.values}
        for nested in message.nested_types:
            add(nested)

    for file in (service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR):
        for message in file.message_types_by_name.values():
            add(message)
        for enum in file.enum_types_by_name.values():
            formats[enum.full_name] = {value.name: value.number for value in enum.values}
    return formats


def main(address: str, model: str, golden: str, *files: str) -> None:
    with np.load(golden) as arrays:
        x, labels = arrays["input.input"], arrays["output.logits"].argmax(axis=1).tolist()
    with InferenceServerClient(address, **security(files)) as client:
        metadata = client.get_model_metadata(model, as_json=True)
        session = {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model ready": client.is_model_ready(model),
            "server": client.get_server_metadata(as_json=True),
            "metadata": metadata,
            "labels": labels,
            "answers": {variant: infer(client, model, variant, x) for variant in ["", *metadata["versions"]]},
            "statistics": client.get_inference_statistics(model, as_json=True)["model_stats"],  # of those so far
            "logits": client.infer(model, [tensor(x)]).as_numpy("logits").tolist(),
            "classes": {count: classes(client, model, x, count) for count in (1, 3, 100)},
            "images": image_labels(client, model),
            "statuses": statuses(client, model, x),
            "config": client.get_model_config(model, as_json=True)["config"],
            "health": health(address, model, metadata["versions"], files),
            "stream": streamed(client, model, metadata["versions"], x),
            "asyncio": asyncio.run(asynchronous(address, files, model, metadata["versions"], x)),
            "control": controlled(client, model),
            "wire format": wire_format(),
            "ready afterwards": client.is_server_ready(),
        }
    print(json.dumps(session))


if __name__ == "__main__":
    main(*sys.argv[1:])
