"""A thousand variants in memory for a few hundred: what a cold answer takes, and what warm ones feel of it.

    make memory         # four minutes, 3 GB of disk; fails where a call fails, or the server takes more than its limit

Each variant has 3 MB of int8 weights. One is pinned and asked steadily, in rounds: alone, and while another client asks
for one variant after the other, each of which is cold and has to be loaded, most of them in the place of another.
"""

import argparse
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, pairwise
from pathlib import Path
from time import perf_counter, sleep

import grpc
import numpy as np
import onnx
from onnx import TensorProto, helper
from onnxruntime import InferenceSession
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from compressors.measure.footprint import MemoryProbe
from protos.manifest import Golden, Preprocessing, Recipe, TensorSpec, to_json
from protos.repository import GoldenSet, describe_files, publish, read_entry, save_golden
from protos.support.options import MEGABYTES
from protos.tensors import encode_request
from tests.support import toy
from tests.support.server.resident import resident, sampling
from tests.support.serving import ServerProcess, serving
from tests.support.steady import SteadyLoad

IN_A_MODEL = 10
PINNED = "net000/v0-onnxruntime"
CHANNELS = (3, 64, 128, 256, 512, 320)
SHAPE = (-1, 3, 32, 32)
RATE = 50.0
"""Calls per second to the variant that stays."""
SETTLE_SECONDS = 0.5
COUNTED = ("loads", "evictions")


@dataclass
class Phase:
    """The seconds of all answers of one kind of round."""

    warm: list[float] = field(default_factory=list)
    cold: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Findings:
    """What was seen."""

    start_seconds: float
    """From the start of the process until every variant can be asked."""
    start_bytes: int
    most_bytes: int
    page_bytes: int
    page_seconds: float
    alone: Phase
    beside: Phase
    loads: int
    evictions: int
    failed: list[str]


def make_network(path: Path, seed: int) -> None:
    """Writes an int8 network of 3 MB: five convolutions of stride 2, with random weights."""
    random = np.random.default_rng(seed)
    nodes, weights, given = [], [], "input"
    for number, (before, after) in enumerate(pairwise(CHANNELS)):
        kernel = random.normal(0, (2 / 9 / before) ** 0.5, (after, before, 3, 3)).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(kernel, f"w{number}"))
        conv = helper.make_node("Conv", [given, f"w{number}"], [f"c{number}"], pads=[1] * 4, strides=[2, 2])
        nodes += [conv, helper.make_node("Relu", [f"c{number}"], [given := f"r{number}"])]
    nodes += [helper.make_node("GlobalAveragePool", [given], ["p"]), helper.make_node("Flatten", ["p"], ["logits"])]
    ends = (("input", ["batch", *SHAPE[1:]]), ("logits", ["batch", CHANNELS[-1]]))
    given_info, made_info = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends)
    graph = helper.make_graph(nodes, "net", [given_info], [made_info], weights)
    plain = path.with_suffix(".fp32")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), plain)
    quantize_static(plain, path, _Batches(images(4, seed)), per_channel=True)
    plain.unlink()


class _Batches(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no stubs
    def __init__(self, batch: np.ndarray) -> None:
        self._left = [{"input": batch}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        """See `CalibrationDataReader.get_next`."""
        return self._left.pop() if self._left else None


def images(rows: int, seed: int = 0) -> np.ndarray:
    """Random images (rows, 3, 32, 32), float32."""
    return np.random.default_rng(seed).random((rows, *SHAPE[1:]), np.float32)


def make_repository(root: Path, variants: int) -> list[tuple[str, str]]:
    """Publishes so many variants, ten to a model, all of one network; returns the names of models and variants."""
    toy.repository(root, ("onnxruntime",))
    plain = read_entry(root / "toy" / "fp32-onnxruntime").variant
    assert plain is not None
    inputs, names = images(4, 1), list[tuple[str, str]]()
    with tempfile.TemporaryDirectory() as folder, MemoryProbe() as probe:
        make_network(Path(folder) / "model.onnx", seed=1)
        (outputs,) = InferenceSession(Path(folder) / "model.onnx").run(["logits"], {"input": inputs})
        network = replace(
            plain,
            precision="int8",
            inputs=(TensorSpec("input", "FP32", SHAPE),),
            outputs=(TensorSpec("logits", "FP32", (-1, CHANNELS[-1])),),
            preprocessing=Preprocessing((32, 32), (0.0,) * 3, (1.0,) * 3, "NCHW"),
            labels=tuple(map(str, range(CHANNELS[-1]))),
            files=describe_files(Path(folder)),
            golden=Golden(measured_error=0.0, tolerance=1e-3),
            footprint=None,
        )
        manifest = root / "measured.json"
        manifest.write_text(to_json(network))
        network = replace(network, footprint=probe.measure(manifest, Path(folder)))
        for number in range(variants):
            model, recipe = f"net{number // IN_A_MODEL:03}", f"v{number % IN_A_MODEL}"
            name = f"{recipe}-onnxruntime"
            save_golden(root, model, GoldenSet({"input": inputs}, {"logits": outputs}))
            steps = plain.recipe.steps
            publish(root, replace(network, model=model, variant=name, recipe=Recipe(recipe, steps)), Path(folder))
            names.append((model, name))
    return names


def measure(root: Path, names: list[tuple[str, str]], limit: str, rounds: int, seconds: float, front: str) -> Findings:
    """Serves the repository below `limit` and asks it, in turns."""
    began = perf_counter()
    with serving(root, "--max-memory", limit, "--pin", PINNED, "--front", front, "--batch-max", "0") as server:
        start_seconds, start_bytes = perf_counter() - began, resident(server)
        page_began, page = perf_counter(), scrape_bytes(server)
        page_seconds = perf_counter() - page_began
        alone, beside, failed, turn = Phase(), Phase(), list[str](), cycle(names[1:])
        request = encode_request(*PINNED.split("/"), {"input": images(1)})
        with sampling(server) as taken, SteadyLoad(server.grpc_address, request, RATE) as load:
            for _ in range(rounds):
                for phase in (alone, beside):
                    sleep(SETTLE_SECONDS)
                    seen, ends = len(load.seconds), perf_counter() + seconds
                    if phase is beside:
                        ask_cold(server, turn, ends, phase.cold, failed)
                    sleep(max(0.0, ends - perf_counter()))
                    phase.warm += load.seconds[seen:]
        failed += [f"{count} x {text}" for text, count in load.texts.items()]
        loads, evictions = (int(sum(server.metrics(f"pareto_variant_{name}_total").values())) for name in COUNTED)
    return Findings(start_seconds, start_bytes, max(taken), page, page_seconds, alone, beside, loads, evictions, failed)


def ask_cold(
    server: ServerProcess, turn: Iterator[tuple[str, str]], ends: float, cold: list[float], failed: list[str]
) -> None:
    """Asks one variant after the other until `ends`, and adds the seconds that each answer took to `cold`."""
    with server.stub() as stub:
        while perf_counter() < ends:
            request, began = encode_request(*next(turn), {"input": images(1)}), perf_counter()
            try:
                stub.ModelInfer(request, timeout=60)
            except grpc.RpcError as error:
                failed.append(str(error.details()))
            else:
                cold.append(perf_counter() - began)


def scrape_bytes(server: ServerProcess) -> int:
    """The size of the metrics page."""
    with urllib.request.urlopen(f"http://{server.metrics_address}/metrics", timeout=60) as page:
        return len(page.read())


def table(found: Findings, variants: int, limit: str) -> str:
    """For people."""
    lines = [
        f"{variants} variants can be asked after {found.start_seconds:.1f} s, in {found.start_bytes / 1e6:.0f} MB",
        f"most memory: {found.most_bytes / 1e6:.0f} MB of {limit}; {found.loads} loads, {found.evictions} evictions",
        f"metrics page: {found.page_bytes / 1e6:.1f} MB in {found.page_seconds:.1f} s",
        f"{'answers':32} {'number':>7} {'p50 ms':>8} {'p90 ms':>8} {'p99 ms':>8} {'max ms':>8}",
    ]
    kinds = {
        "cold": found.beside.cold,
        "warm, beside none that are cold": found.alone.warm,
        "warm, beside cold ones": found.beside.warm,
    }
    for kind, seconds in kinds.items():
        times = " ".join(f"{float(np.percentile(seconds, share)) * 1e3:8.1f}" for share in (50, 90, 99, 100))
        lines.append(f"{kind:32} {len(seconds):7} {times}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 where a call failed or the server took more than its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=1000)
    parser.add_argument("--max-memory", default="2GB")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each half of a round")
    parser.add_argument("--front", default="grpcio")
    options = parser.parse_args(arguments)
    limit = options.max_memory
    with tempfile.TemporaryDirectory() as folder:
        print(f"publishing {options.variants} variants", file=sys.stderr)
        names = make_repository(Path(folder), options.variants)
        found = measure(Path(folder), names, limit, options.rounds, options.seconds, options.front)
    print(table(found, options.variants, limit))
    wrong = found.failed[:5]
    if found.most_bytes > MEGABYTES["convert"](limit) * 1e6:
        wrong.append(f"the server took {found.most_bytes / 1e6:.0f} MB, expected at most {limit}")
    for line in wrong:
        print(line, file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
