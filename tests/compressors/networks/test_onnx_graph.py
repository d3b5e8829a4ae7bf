"""ONNX as people have it: a graph goes on answering as it did, whatever the tool that wrote it made of it."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from onnxruntime import quantization

from compressors import study
from compressors.data.datasets import OWN_FORM
from compressors.export import exporters
from compressors.export.lowerings import FLOAT32, StaticInt8
from compressors.networks import contract, onnx_graph, zoo
from compressors.networks.layers import INPUT
from compressors.networks.onnx_network import OnnxNetwork
from protos.errors import UsageError
from tests.support.compressors import foreign
from tests.support.compressors.small import Small, classes

ROWS = np.random.default_rng(1).random((4, 3, 32, 32), np.float32)
CHANNELS_LAST = helper.make_node("Transpose", ["logits"], ["image"], perm=[0, 3, 1, 2])
TOKEN = helper.make_node("Concat", ["scores", "token"], ["both"], axis=1)
INTEGERS = {"zero": np.array([0]), "one": np.array([1]), "ten": np.array([10])}


@pytest.fixture
def taken(tmp_path: Path) -> Callable[[onnx.ModelProto], OnnxNetwork]:
    """Writes a graph to a file and reads it as a network."""

    def take(graph: onnx.ModelProto) -> OnnxNetwork:
        onnx.save(graph, tmp_path / "theirs.onnx")
        return OnnxNetwork(onnx_graph.read_graph(tmp_path / "theirs.onnx", (32, 32)))

    return take


def answers(network: OnnxNetwork, rows: np.ndarray = ROWS) -> np.ndarray:
    return network(torch.from_numpy(rows)).numpy()


EXPECTED = onnx.reference.ReferenceEvaluator(foreign.graph("batch")).run(None, {"logits": ROWS})[0]


@pytest.mark.parametrize(
    "graph",
    [
        foreign.graph(),
        foreign.graph("batch"),
        foreign.graph(reshape=(1, -1)),
        foreign.graph(reshape=(1, 8)),
        foreign.graph(4, reshape=(4, 8)),
        foreign.graph("batch", reshape=(1, -1)),
        foreign.graph(opset=11),
        foreign.graph("n", size=("c", "h", "w")),
    ],
    ids=["fixed", "free", "reshape", "reshape-8", "four", "declared-free", "opset-11", "symbolic"],
)
def test_a_graph_is_taken_with_a_free_batch(
    taken: Callable[[onnx.ModelProto], OnnxNetwork], graph: onnx.ModelProto
) -> None:
    network = taken(graph)
    assert network.max_batch is None
    np.testing.assert_allclose(answers(network), EXPECTED, atol=1e-4)
    (declared,) = onnx.load_from_string(network.graph).graph.input
    dimensions = declared.type.tensor_type.shape.dim
    assert (declared.name, dimensions[0].dim_param, [d.dim_value for d in dimensions[1:]]) == (
        INPUT,
        "batch",
        [3, 32, 32],
    )


@pytest.mark.parametrize("batch", [1, 4, "batch"])
def test_a_batch_that_cannot_be_made_free_is_answered_row_by_row(
    taken: Callable[[onnx.ModelProto], OnnxNetwork], batch: int | str
) -> None:
    token = np.ones((batch if isinstance(batch, int) else 1, 2), np.float32)
    cut = helper.make_node("Slice", ["both", "zero", "ten", "one"], ["given"])
    network = taken(foreign.graph(batch, after=(TOKEN, cut), token=token, **INTEGERS))
    assert network.max_batch == 1
    np.testing.assert_allclose(answers(network), EXPECTED, atol=1e-4)
    contract.check(network, (3, 32, 32), classes(10))


def test_channels_may_come_last(taken: Callable[[onnx.ModelProto], OnnxNetwork], tmp_path: Path) -> None:
    network = taken(foreign.graph("n", size=(32, 32, 3), before=(CHANNELS_LAST,)))
    np.testing.assert_allclose(answers(network), EXPECTED, atol=1e-4)
    assert onnx_graph.input_size(tmp_path / "theirs.onnx") == (32, 32)


def test_other_channels_are_refused(taken: Callable[[onnx.ModelProto], OnnxNetwork]) -> None:
    with pytest.raises(UsageError, match=r"input 'logits' is FLOAT \[1,4,32,32\], expected FLOAT \[N,3,H,W\]"):
        taken(foreign.graph(size=(4, 32, 32)))


@pytest.mark.parametrize("name", ["input", "logits"])
def test_initializers_may_have_the_names_of_all_artifacts(
    taken: Callable[[onnx.ModelProto], OnnxNetwork], name: str
) -> None:
    graph = foreign.graph("batch")
    names = {"logits": "pixels", "input": "convolved", "w": name}
    for node in graph.graph.node:
        node.input[:] = [names.get(n, n) for n in node.input]
        node.output[:] = [names.get(n, n) for n in node.output]
    graph.graph.input[0].name = "pixels"
    graph.graph.initializer[0].name = name
    np.testing.assert_allclose(answers(taken(graph)), EXPECTED, atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # what torch tells its own developers
def test_paths_of_the_machine_that_exported_are_cleaned(tmp_path: Path) -> None:
    torch.onnx.export(Small().eval(), (torch.zeros(1, 3, 8, 8),), tmp_path / "theirs.onnx", dynamo=True, verbose=False)
    proto = onnx.load(tmp_path / "theirs.onnx")
    proto.graph.doc_string = proto.graph.node[0].doc_string = f"{Path(__file__).parents[3]}/train.py"
    onnx.save(proto, tmp_path / "theirs.onnx")
    network = OnnxNetwork(onnx_graph.read_graph(tmp_path / "theirs.onnx"))
    job = exporters.Job(network, torch.zeros(2, 3, 8, 8), FLOAT32, None, tmp_path / "artifact")
    exporters.export(exporters.EXPORTERS["onnxruntime"], job)  # which refuses such paths


def test_randomness_and_sums_over_the_batch_break_the_contract(
    taken: Callable[[onnx.ModelProto], OnnxNetwork],
) -> None:
    noise = (
        helper.make_node("RandomUniformLike", ["scores"], ["noise"]),
        helper.make_node("Add", ["scores", "noise"], ["given"]),
    )
    with pytest.raises(UsageError, match="otherwise the second time"):
        contract.check(taken(foreign.graph("batch", after=noise)), (3, 32, 32), classes(10))
    centred = (
        helper.make_node("ReduceMean", ["scores"], ["mean"], axes=[0]),
        helper.make_node("Sub", ["scores", "mean"], ["given"]),
    )
    with pytest.raises(UsageError, match="otherwise alone than among others"):
        contract.check(taken(foreign.graph("batch", after=centred)), (3, 32, 32), classes(10))


class Calibration(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self._rows = iter(ROWS)

    def get_next(self) -> dict[str, np.ndarray] | None:
        row = next(self._rows, None)
        return None if row is None else {"logits": row[None]}


@pytest.fixture(params=["static", "operators", "dynamic"])
def int8(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The file of a graph that ONNX Runtime's own tools quantized."""
    source, target = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    onnx.save(foreign.graph("batch"), source)
    if request.param == "dynamic":
        quantization.quantize_dynamic(source, target)
        return target
    form = quantization.QuantFormat.QDQ if request.param == "static" else quantization.QuantFormat.QOperator
    quantization.quantize_static(source, target, Calibration(), quant_format=form, reduce_range=True)
    return target


def test_a_graph_that_is_int8_already_is_taken_as_int8(int8: Path) -> None:
    network = OnnxNetwork(onnx_graph.read_graph(int8))
    assert network.is_int8
    contract.check(network, (3, 32, 32), classes(10))
    session = onnxruntime.InferenceSession(int8, providers=["CPUExecutionProvider"])
    alone = np.concatenate([session.run(None, {"logits": row[None]})[0] for row in ROWS])
    np.testing.assert_allclose(answers(network), alone, atol=1e-4)
    assert not OnnxNetwork(foreign.graph().SerializeToString()).is_int8


def test_a_graph_that_is_int8_already_is_never_called_fp32_nor_quantized_again(int8: Path) -> None:
    declared = study.own("mine", "onnx", str(int8), "arrays", OWN_FORM, 8, ("onnxruntime",))
    assert [(recipe.name, recipe.lowering) for recipe in declared.recipes] == [("int8", FLOAT32)]
    head = 'models = { m = "onnx" }\ndata = "arrays"\ncalibration = 8\nruntimes = ["onnxruntime"]\n'
    load = f'step = "load"\nfile = "{int8}"\n'
    again = '[recipes.again]\nstep = "dynamic-int8"\nparent = "int8"\n'
    for recipes in (f"[recipes.fp32]\n{load}", f"[recipes.int8]\n{load}{again}"):
        int8.with_name("s.toml").write_text(head + recipes)
        with pytest.raises(UsageError, match="the graph is int8 already, expected 'int8', its loading, alone"):
            study.load(str(int8.with_name("s.toml")))


def test_a_detector_of_pytorch_s_older_exporter_becomes_int8_with_its_outputs(tmp_path: Path) -> None:
    """Its sizes are computed in the graph, at which the quantizer's inference of shapes by symbols gives up."""
    detector = zoo.create("scrfd_500m_boxes", 1, seed=0).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is the older one
        torch.onnx.export(
            detector, (torch.zeros(1, 3, 64, 64),), str(tmp_path / "old.onnx"), dynamo=False, opset_version=13,
            input_names=["images"], output_names=[*detector.outputs],
        )  # fmt: skip
    network, images = OnnxNetwork(onnx_graph.read_graph(tmp_path / "old.onnx")), torch.randn(4, 3, 64, 64)
    job = exporters.Job(network, images[:2], StaticInt8(), images, tmp_path / "artifact", float_tail=True)
    entry = exporters.export(exporters.EXPORTERS["onnxruntime"], job).entry
    session = onnx_graph.open_session((tmp_path / "artifact" / entry).read_bytes())
    answers = onnx_graph.answer(session, {INPUT: images.numpy()})
    assert {name: array.shape for name, array in answers.items()} == {
        name: tuple(array.shape) for name, array in zip(detector.outputs, detector(images), strict=True)
    }
