"""One conformance suite for all runtimes: what every exporter must write and every adapter must do.

The same tests run for each runtime with each lowering that it can take. A new one joins by its row in the tables.
"""

import itertools
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from compressors.export import exporters
from compressors.export.exporters import Job
from compressors.export.lowerings import (
    FLOAT32,
    AccuracyAwareInt8,
    BFloat16,
    DynamicInt8,
    Float16,
    Lowering,
    StaticInt8,
    WeightInt8,
)
from compressors.networks.layers import INPUT, OUTPUT
from compressors.networks.scrfd import STRIDES, Head, MobileNet, Pafpn, Scrfd
from compressors.recipes import train
from compressors.recipes.steps import Fit
from protos.manifest import RuntimeName, TensorSpec, Variant, to_json
from server import runtimes
from tests.support.compressors.artifacts import described
from tests.support.compressors.emulated import answering, ask, without_avx512
from tests.support.compressors.small import Small, dataset, scoring

ROOT = Path(__file__).parents[3]
LOWERINGS: dict[str, Lowering] = {
    "fp32": FLOAT32,
    "int8": StaticInt8(),
    "dynamic": DynamicInt8(),
    "aware": AccuracyAwareInt8(max_drop=1),
    "weights": WeightInt8(),
    "fp16": Float16(),
    "bf16": BFloat16(),
}
LONG_CASES = {("pytorch", "dynamic")}
"""As `int8` of the same runtime, it is compiled ahead of time, which takes a quarter of a minute."""
CASES = [
    pytest.param(case, id=f"{case[1]}-{case[0]}", marks=[pytest.mark.long] * (case in LONG_CASES))
    for case in itertools.product(exporters.EXPORTERS, LOWERINGS)
    if exporters.refusal(LOWERINGS[case[1]], case[0]) is None
]


@dataclass
class Case:
    """One exported variant and its loaded adapter."""

    folder: Path
    variant: Variant
    adapter: runtimes.Runtime
    entry: str

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.adapter.infer({INPUT: images})[OUTPUT]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    torch.manual_seed(0)
    network = Small()
    checkpoint = tmp_path_factory.mktemp("train") / "c.pt"
    train.fit(network, dataset(), Fit(epochs=8, batch=16, learning_rate=0.1), 0, checkpoint, None)
    return network


@pytest.fixture(scope="module", params=CASES)
def case(
    request: pytest.FixtureRequest, network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Case]:
    runtime, name = request.param
    lowering = LOWERINGS[name]
    folder = tmp_path_factory.mktemp(f"{name}-{runtime}")
    data = dataset()
    calibration = torch.from_numpy(data.inputs(data.calibration)) if lowering.calibrated else None
    validate = scoring(data.calibration.truth["labels"])
    job = Job(network, torch.from_numpy(data.inputs(data.test)[:2]), lowering, calibration, folder, validate)
    entry = exporters.export(exporters.EXPORTERS[runtime], job).entry
    variant = described(folder, runtime, entry, lowering)
    adapter = runtimes.load(folder, variant, threads=1)
    yield Case(folder, variant, adapter, entry)
    adapter.close()


STRANGER = f"""
import sys
sys.modules["compressors"] = sys.modules["tests"] = sys.modules["torchvision"] = None
import numpy, pathlib
from protos.manifest import from_json
from server import runtimes
for line in sys.stdin:
    work, artifact = map(pathlib.Path, line.rstrip().split("\\t"))
    adapter = runtimes.load(artifact, from_json((work / "manifest.json").read_text()), 1)
    numpy.save(work / "out.npy", adapter.infer({{"{INPUT}": numpy.load(work / "in.npy")}})["{OUTPUT}"])
    adapter.close()
    print("done", flush=True)
"""


@pytest.fixture(scope="module")
def stranger() -> Iterator[subprocess.Popen[str]]:
    """A process that knows nothing of `compressors` and answers for the artifact of each line that it is given."""
    with answering([sys.executable, "-c", STRANGER]) as process:
        yield process


@pytest.fixture(scope="module")
def without_vnni() -> Iterator[subprocess.Popen[str]]:
    """The same on a CPU with AVX2 and without AVX512 and VNNI."""
    with answering([*without_avx512(), sys.executable, "-c", STRANGER]) as process:
        yield process


def answers_of(process: subprocess.Popen[str], case: Case, images: np.ndarray, folder: Path) -> np.ndarray:
    """What the artifact of the case answers in that process; `folder` is for what the two exchange."""
    np.save(folder / "in.npy", images)
    (folder / "manifest.json").write_text(to_json(case.variant))
    ask(process, f"{folder}\t{case.folder}")
    return np.load(folder / "out.npy")


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    data = dataset()
    return data.inputs(data.test)


@pytest.fixture(scope="module")
def expected(network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(images)).numpy()


def test_answers_are_those_of_the_network(case: Case, images: np.ndarray, expected: np.ndarray) -> None:
    errors = np.abs(case(images) - expected) / np.ptp(expected)
    if case.variant.precision == "fp32":
        assert errors.max() < 1e-5
    else:  # a value beyond the calibrated range is clipped, so that the largest error says little
        assert errors.mean() < 0.02


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 64])
def test_the_batch_is_free(case: Case, images: np.ndarray, batch: int) -> None:
    tolerance = 1e-5 if case.variant.precision == "fp32" else 0.1  # of outputs from -5 to 8
    np.testing.assert_allclose(case(images[:batch]), case(images)[:batch], rtol=0, atol=tolerance)


def test_read_only_memory_is_taken(case: Case, images: np.ndarray) -> None:
    received = np.frombuffer(images[:2].tobytes(), np.float32).reshape(2, 3, 8, 8)
    assert not received.flags.writeable
    np.testing.assert_array_equal(case(received), case(images[:2]))


def test_memory_in_another_order_is_taken(case: Case, images: np.ndarray) -> None:
    strided = np.asfortranarray(images[:4])
    assert not strided.flags.c_contiguous
    np.testing.assert_array_equal(case(strided), case(images[:4]))


def test_a_batch_of_another_size_leaves_nothing_behind(case: Case, images: np.ndarray) -> None:
    """A request that is given memory for a batch keeps none of it for the next."""
    alone = [case(images[:rows]) for rows in (1, 5)]
    for rows, before in zip((1, 5, 1, 3, 5), (alone[0], alone[1], alone[0], None, alone[1]), strict=True):
        answer = case(images[:rows])
        assert before is None or np.array_equal(answer, before)


def test_it_answers_after_inputs_of_a_wrong_shape(case: Case, images: np.ndarray) -> None:
    if case.variant.runtime == "pytorch" and case.variant.precision == "int8":
        return  # code that was compiled ahead of time looks at no shapes: the server does
    before = case(images[:2])
    with pytest.raises(Exception):  # noqa: B017, PT011  # each library has its own
        case(images[:2, :2])
    np.testing.assert_array_equal(case(images[:2]), before)


def test_an_input_that_is_left_out_is_an_error_also_after_one_that_was_given(case: Case, images: np.ndarray) -> None:
    case(images[:2])
    with pytest.raises(Exception):  # noqa: B017, PT011  # each library has its own
        case.adapter.infer({})


def test_an_answer_is_not_changed_by_the_next_one(case: Case, images: np.ndarray) -> None:
    first = case(images[:4])
    kept = first.copy()
    case(images[4:8])
    np.testing.assert_array_equal(first, kept)


def test_the_artifact_is_self_contained(
    case: Case, images: np.ndarray, tmp_path: Path, stranger: subprocess.Popen[str]
) -> None:
    """It loads and answers in a process in which `compressors` and this test's network cannot be imported."""
    answers = answers_of(stranger, case, images[:2], tmp_path)
    np.testing.assert_allclose(answers, case(images[:2]), rtol=0, atol=1e-4)


@pytest.mark.long
def test_a_cpu_without_vnni_answers_as_this_one(
    case: Case, images: np.ndarray, tmp_path: Path, without_vnni: subprocess.Popen[str]
) -> None:
    tolerance = 1e-4 if case.variant.precision == "fp32" else 0.1  # of outputs from -5 to 8
    answers = answers_of(without_vnni, case, images, tmp_path)
    np.testing.assert_allclose(answers, case(images), rtol=0, atol=tolerance)


def test_the_artifact_carries_no_path_of_this_machine(case: Case) -> None:
    for path in case.folder.iterdir():
        content = b"".join(_members(path).values()) or path.read_bytes()
        for trace in (b"site-packages/", b"/torchinductor_", str(ROOT).encode(), sys.prefix.encode() + b"/"):
            assert trace not in content, f"{path.name} carries {trace!r}"


def test_the_artifact_holds_no_pickled_object(case: Case) -> None:
    members = _members(case.folder / case.entry)
    if case.variant.runtime == "torchscript":
        members.pop("model/data.pkl", None)  # read by libtorch's own unpickler, which builds no Python objects
        members.pop("model/constants.pkl", None)
        members.pop("model/attributes.pkl", None)
    assert [name for name in members if name.endswith((".pkl", ".pickle"))] == []


DETECTOR_CASES = [(runtime, "fp32") for runtime in exporters.EXPORTERS]
DETECTOR_CASES += [(runtime, "fp16") for runtime in ("torchscript", "onnxruntime")]
DETECTOR_CASES += [(runtime, "int8") for runtime in ("torchscript", "onnxruntime", "openvino")]


@pytest.fixture(scope="module")
def detector() -> Scrfd:
    """Nine outputs, with scores that differ."""
    torch.manual_seed(0)
    heads = [Head(torch.nn.ReLU(), 8, classes=1, keypoints=5) for _ in STRIDES]
    network = Scrfd(MobileNet((8, 8, 8, 8, 8), (1, 1, 1, 1)), Pafpn((8, 8, 8), 8), heads).eval()
    for parameter in network.head.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(("runtime", "name"), DETECTOR_CASES)
def test_every_output_of_a_detector_is_that_of_the_network(
    runtime: RuntimeName, name: str, detector: Scrfd, tmp_path: Path
) -> None:
    """By its name, in any batch; int8 leaves the predictors and what follows them in floating point."""
    lowering = LOWERINGS[name]
    if isinstance(lowering, StaticInt8):
        last = {id(layer) for layer in detector.last_layers()}
        lowering = StaticInt8(float_layers=tuple(path for path, m in detector.named_modules() if id(m) in last))
    images = torch.rand(16, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = dict(zip(detector.outputs, map(torch.Tensor.numpy, detector(images)), strict=True))
    job = Job(detector, images[:2].clone(), lowering, images, tmp_path, float_tail=True)
    entry = exporters.export(exporters.EXPORTERS[runtime], job).entry
    shapes = {name: (-1, *array.shape[1:]) for name, array in expected.items()}
    outputs = tuple(TensorSpec(name, "FP32", shape) for name, shape in shapes.items())
    inputs = (TensorSpec(INPUT, "FP32", (-1, 3, 64, 64)),)
    variant = replace(described(tmp_path, runtime, entry, lowering), inputs=inputs, outputs=outputs)
    with closing(runtimes.load(tmp_path, variant, threads=1)) as adapter:
        for batch in (1, 3):
            answers = adapter.infer({INPUT: images[:batch].numpy()})
            assert list(answers) == list(expected)
            for output, array in answers.items():
                errors = np.abs(array - expected[output][:batch]) / np.ptp(expected[output])
                assert errors.max() < 1e-5 if name == "fp32" else errors.mean() < 0.02, output


def test_an_artifact_with_a_local_path_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"\0" + sys.prefix.encode() + b"/lib\0")
    with pytest.raises(ValueError, match=r"model\.bin carries the path"):
        exporters.refuse_local_paths(tmp_path)


def _members(path: Path) -> dict[str, bytes]:
    """The members of a zip archive, or nothing where the file is none."""
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
