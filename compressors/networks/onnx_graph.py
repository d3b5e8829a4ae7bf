"""A file's ONNX graph, made fit for exporters, however the tool wrote it that exported it.

A graph is taken where it has one float32 input of RGB images. Its input, and an output that is the only one and
(N, classes), get the names that all artifacts have; other outputs keep theirs. Channels come first, unknown sizes
become those of the data, and what names files of the machine that exported it goes. A batch that is fixed is made free
where the answers stay what they were, else it stays fixed; an output without a batch, of a graph for one image, gets
one.
"""

import re
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import onnxruntime
from onnx import version_converter
from onnx_ir.passes.common import ClearMetadataAndDocStringPass

from compressors.networks.layers import INPUT, OUTPUT
from compressors.progress import first_line
from protos.errors import UsageError
from server.runtimes import Array, in_batches

Outputs = dict[str, Array]
Size = tuple[int, int]
"""(height, width)."""

_OLDEST_OPSET = 13
"""QDQ quantization is per channel from this opset on; older graphs are converted."""
_INT8 = re.compile(r"[Qq]uantize|Integer|^Q[A-Z]")
"""The operators of quantized graphs: QuantizeLinear, ConvInteger, QLinearMatMul, QGemm, ..."""
_TRIED_ROWS, _TRIED_SIZE = 3, 32
_TOLERANCE = 1e-3
"""How much of the largest output two answers may differ."""


def read_graph(path: Path, size: Size | None = None) -> bytes:
    """Reads a file's graph and makes it fit for exporters; raises `UsageError`, one line, where that cannot be.

    `size` is that of the images, for a graph that leaves it open.
    """
    try:
        proto = onnx.load(path)
        onnx.checker.check_model(proto)
    except Exception as error:  # a damaged file fails in many ways
        raise UsageError(f"{path.name}: not an ONNX graph: {first_line(error)}") from None
    model = onnx_ir.serde.deserialize_model(_modern(proto, path.name))
    ClearMetadataAndDocStringPass()(model)
    declared = _prepare(model.graph, size, path.name)
    _prepare_outputs(model, declared or 1, path.name)
    return _in_its_batches(model, declared, path.name)


def input_size(path: Path) -> Size | None:
    """Returns height and width of a graph's input where they are fixed; None also where the file is no graph."""
    try:
        (declared,) = onnx.load(path, load_external_data=False).graph.input[:1]
        sizes = [dimension.dim_value for dimension in declared.type.tensor_type.shape.dim]
        height, width = sizes[1:3] if _channels_last(sizes) else sizes[2:]
    except Exception:  # said in full by `read_graph`
        return None
    return (height, width) if height and width else None


def is_int8(proto: onnx.ModelProto) -> bool:
    """Returns whether a graph holds operators of quantization."""
    model = onnx_ir.serde.deserialize_model(proto)
    nodes = [*model.graph.all_nodes(), *(node for function in model.functions.values() for node in function)]
    return any(_INT8.search(node.op_type) for node in nodes)


def is_int8_file(path: Path) -> bool:
    """Returns whether a file's graph is quantized already; False also where the file is no graph."""
    try:
        return is_int8(onnx.load(path, load_external_data=False))
    except Exception:  # said in full by `read_graph`
        return False


def open_session(graph: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """Opens a graph in ONNX Runtime; raises what that raises."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what is wrong is raised
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _channels_last(sizes: list[int]) -> bool:
    """Returns whether (N, H, W, 3) is meant; a size that is not fixed is none of 3."""
    return len(sizes) == 4 and sizes[1] != 3 and sizes[3] == 3


def _modern(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), _OLDEST_OPSET)
    if opset >= _OLDEST_OPSET:
        return proto
    try:
        return version_converter.convert_version(proto, _OLDEST_OPSET)
    except Exception as error:
        raise UsageError(f"{name}: opset {opset} cannot be made {_OLDEST_OPSET}: {first_line(error)}") from None


def _prepare(graph: onnx_ir.Graph, size: Size | None, name: str) -> int | None:
    """Gives the one input and the one output their names, shapes and a free batch; returns the batch it had."""
    weights = [value for value in graph.inputs if value.name in graph.initializers]
    for value in weights:  # old graphs list them among the inputs
        graph.inputs.remove(value)
    if len(graph.inputs) != 1 or not graph.outputs:
        got = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        raise UsageError(f"{name}: got {got}, expected one input, and one output or more")
    (taken,) = graph.inputs
    shape = [d if isinstance(d, int) else 0 for d in taken.shape] if taken.shape is not None else [0] * 4
    last = _channels_last(shape)
    channels, *sizes = [shape[3], shape[1], shape[2]] if last else shape[1:]
    if taken.dtype != onnx_ir.DataType.FLOAT or len(shape) != 4 or channels not in (0, 3):
        expected = "FLOAT [N,3,H,W] or [N,H,W,3]"
        raise UsageError(f"{name}: input '{taken.name}' is {taken.dtype} {taken.shape}, expected {expected}")
    for node in graph.all_nodes():
        for value in node.outputs:
            value.shape = None  # sizes of a fixed batch are left nowhere
    if last:
        taken = _channels_first(graph, taken)
    wanted: tuple[int | str, int | str] = size or ("height", "width")
    taken.shape = onnx_ir.Shape(["batch", 3, sizes[0] or wanted[0], sizes[1] or wanted[1]])
    _rename(graph, taken, INPUT)
    return shape[0] or None


def _prepare_outputs(model: onnx_ir.Model, batch: int, name: str) -> None:
    """Gives each output a batch and a shape, and a classifier's only one its name."""
    graph = model.graph
    try:
        found = _run(_bytes(model), _images(model, batch))
    except Exception as error:
        raise UsageError(f"{name}: ONNX Runtime does not run it: {first_line(error)}") from None
    for index, answer in enumerate(found.values()):
        if answer.shape[:1] != (batch,):
            if batch != 1:
                raise UsageError(
                    f"{name}: output '{graph.outputs[index].name}' has shape {list(answer.shape)} for {batch} images,"
                    " expected a row for each"
                )
            answer = answer[None]
            _add_batch(graph, index)
        graph.outputs[index].shape = onnx_ir.Shape(["batch", *answer.shape[1:]])
    if len(found) == 1 and answer.ndim == 2:
        _rename(graph, graph.outputs[0], OUTPUT)


def _add_batch(graph: onnx_ir.Graph, index: int) -> None:
    """Puts a first dimension of 1 before those of an output, which keeps its name."""
    given = graph.outputs[index]
    node = onnx_ir.node("Unsqueeze", [given, _constant(graph, f"{given.name}_axes", [0])])
    node.outputs[0].name, given.name = given.name, f"{given.name}_of_one"
    node.outputs[0].type = given.type
    graph.append(node)
    graph.outputs[index] = node.outputs[0]


def _channels_first(graph: onnx_ir.Graph, taken: onnx_ir.Value) -> onnx_ir.Value:
    """Puts a transposition before the input of a graph whose channels come last, and returns the new input."""
    first = onnx_ir.Value(name=f"{taken.name}_channels_first", type=taken.type)
    turned = onnx_ir.node("Transpose", [first], {"perm": [0, 2, 3, 1]})
    turned.outputs[0].name = f"{taken.name}_channels_last"
    taken.replace_all_uses_with(turned.outputs[0])
    graph.insert_before(graph[0], turned)
    graph.inputs[0] = first
    return first


def _rename(graph: onnx_ir.Graph, value: onnx_ir.Value, name: str) -> None:
    """Gives an input or output the name that all artifacts have; whatever else has it gets another."""
    values = onnx_ir.convenience.create_value_mapping(graph)
    if name in values:
        free = f"{name}_"
        while free in values:
            free += "_"
        values[name].name = free
    value.name = name


def _in_its_batches(model: onnx_ir.Model, declared: int | None, name: str) -> bytes:
    """Returns the graph with a free batch where rows are answered together as they are alone, else as it was fixed.

    What was declared free and gives other answers stays so, unless it quantizes in each call: it is not the graph
    that makes the batch one then, and whoever tries its contract says what is wrong.
    """
    free, batch = _bytes(model), declared or 1
    fixed, rows = _bytes(_one_row(model, batch)), _images(model, _TRIED_ROWS)
    try:
        alone = _run(fixed, rows, 1)
    except Exception as error:
        raise UsageError(f"{name}: ONNX Runtime does not run it: {first_line(error)}") from None
    for candidate in (free, _bytes(_freed(model, batch))):
        together = _tried(candidate, rows)
        if together is not None and _shapes(together) == _shapes(alone):
            same = all(_close(together[output], alone[output]) for output in alone)
            if same or (declared is None and not is_int8(onnx.load_from_string(free))):
                return candidate
    return fixed


def _shapes(answers: Outputs) -> dict[str, tuple[int, ...]]:
    return {name: answer.shape for name, answer in answers.items()}


def _close(one: Array, other: Array) -> bool:
    return np.allclose(one, other, rtol=0, atol=_TOLERANCE * float(np.abs(other).max(initial=0)))


def _images(model: onnx_ir.Model, rows: int) -> Array:
    """Makes inputs (rows, 3, H, W) at random."""
    sizes = [d if isinstance(d, int) else _TRIED_SIZE for d in list(model.graph.inputs[0].shape or ())[2:]]
    return np.random.default_rng(0).random((rows, 3, *sizes), np.float32)


def _one_row(model: onnx_ir.Model, batch: int) -> onnx_ir.Model:
    """Returns the model for one row; fixed at more rows, it computes copies of that one and gives the first."""
    copy = model.clone()
    graph, (taken,) = copy.graph, copy.graph.inputs
    taken.shape = onnx_ir.Shape([1, *(taken.shape or ())[1:]])
    for given in graph.outputs:
        given.shape = onnx_ir.Shape([1, *given.shape[1:]]) if given.shape is not None else None
    if batch > 1:
        constants = {"copies": [batch, 1, 1, 1], "first": [0], "second": [1]}
        copies, first, second = (_constant(graph, f"{INPUT}_{name}", value) for name, value in constants.items())
        expanded = onnx_ir.node("Expand", [taken, copies])
        taken.replace_all_uses_with(expanded.outputs[0])
        expanded.replace_input_with(0, taken)
        expanded.outputs[0].name = f"{INPUT}_{batch}"
        graph.insert_before(graph[0], expanded)
        for index, given in enumerate(graph.outputs):
            sliced = onnx_ir.node("Slice", [given, first, second])
            graph.append(sliced)
            graph.outputs[index] = sliced.outputs[0]
            sliced.outputs[0].shape, given.shape = given.shape, None
            sliced.outputs[0].name, given.name = given.name, f"{given.name}_{batch}"
    return copy


def _freed(model: onnx_ir.Model, batch: int) -> onnx_ir.Model:
    """Returns the model with the batch taken out of what it reshapes to."""
    copy = model.clone()
    for node in list(copy.graph.all_nodes()):
        shape = node.inputs[1] if node.op_type == "Reshape" and len(node.inputs) > 1 else None
        constant = onnx_ir.convenience.get_const_tensor(shape) if shape is not None else None
        target = constant.numpy().tolist() if constant is not None else []
        if target and target[0] == batch:
            target[0] = 0 if -1 in target else -1  # 0 is the input's own batch
            node.replace_input_with(1, _constant(copy.graph, f"{node.outputs[0].name}_free_batch", target))
    return copy


def _constant(graph: onnx_ir.Graph, name: str, values: list[int]) -> onnx_ir.Value:
    value = onnx_ir.Value(name=name, const_value=onnx_ir.tensor(np.array(values, np.int64), name=name))
    graph.register_initializer(value)
    return value


def _bytes(model: onnx_ir.Model) -> bytes:
    return bytes(onnx_ir.serde.serialize_model(model).SerializeToString())


def _run(graph: bytes, rows: Array, batch: int | None = None) -> Outputs:
    """Returns the outputs by name for rows, all in one call or `batch` at a time."""
    session = open_session(graph)
    return in_batches(lambda inputs: answer(session, inputs), {session.get_inputs()[0].name: rows}, batch or len(rows))


def answer(session: onnxruntime.InferenceSession, inputs: Outputs) -> Outputs:
    """Returns the outputs of a session by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def _tried(graph: bytes, rows: Array) -> Outputs | None:
    """Returns the answers to all rows in one call; None where the graph does not take them."""
    try:
        return _run(graph, rows)
    except Exception:  # ONNX Runtime's own
        return None
