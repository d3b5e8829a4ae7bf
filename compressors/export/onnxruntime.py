"""ONNX artifacts: `torch.onnx.export(dynamo=True)`, in int8 as QDQ by ONNX Runtime's own quantizer.

Source: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import singledispatch
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization import calibrate, shape_inference
from onnxruntime.transformers import float16
from onnxruntime.transformers.optimizer import optimize_model
from onnxscript import optimizer

from compressors.export import exporters, float_parts, lowerings, measured
from compressors.export.exporters import Exported, Job
from compressors.export.lowerings import DynamicInt8, StaticInt8
from compressors.networks.layers import INPUT, weights
from compressors.networks.onnx_network import OnnxNetwork

ENTRY = "model.onnx"
OPSET = 20

_LINEAR = ("Gemm", "MatMul")
_WEIGHTED = ("Conv", *_LINEAR)
_LAYERS = (*_WEIGHTED, "ConvTranspose")

_RANGES: dict[str, tuple[quantization.CalibrationMethod, dict[str, object]]] = {
    "default": (quantization.CalibrationMethod.MinMax, {}),
    "min-max": (quantization.CalibrationMethod.MinMax, {}),
    "mean-min-max": (quantization.CalibrationMethod.MinMax, {"moving_average": True}),
    "entropy": (quantization.CalibrationMethod.Entropy, {"num_bins": 2048}),
    "percentile": (quantization.CalibrationMethod.Percentile, {"num_bins": 2048}),
}
"""Ways to find ranges, each with what its calibrator is told. The bins are those of
https://on-demand.gputechconf.com/gtc/2017/presentation/s7310-8-bit-inference-with-tensorrt.pdf
"""


def export(job: Job) -> Exported:
    """Writes `model.onnx`."""
    return Exported(ENTRY, _write(job.lowering, job, job.folder / ENTRY))


@singledispatch
def _write(lowering: lowerings.Lowering, job: Job, target: Path) -> tuple[str, ...]:
    """Writes the lowered graph and returns the notes on it; FP32, for which nothing is registered below, as it is."""
    save_fp32(job, target)
    return ()


@_write.register
def _float16(lowering: lowerings.Float16, job: Job, target: Path) -> tuple[str, ...]:
    model = float16.convert_float_to_float16(_graph(job), keep_io_types=True)
    made = set[str]()
    for node in list(model.graph.node):  # a constant that two nodes want in FP32 is cast twice, under one name
        if node.output[0] in made:
            model.graph.node.remove(node)
        made.update(node.output)
    onnx.save(model, target)
    return ("weights are stored in FP16, the CPU provider computes in FP32",)


@_write.register
def _graph_optimization(lowering: lowerings.GraphOptimization, job: Job, target: Path) -> tuple[str, ...]:
    plain = job.folder / "fp32.onnx"
    save_fp32(job, plain)
    optimized = optimize_model(str(plain), "vit", opt_level=0)  # level 0: what loading does anyway is left to it
    plain.unlink()
    fused = {operator: count for operator, count in optimized.get_fused_operator_statistics().items() if count}
    onnx.save(optimized.model, target)
    return (f"fused: {', '.join(f'{count} {operator}' for operator, count in fused.items()) or 'nothing'}",)


@_write.register
def _static_int8(lowering: StaticInt8, job: Job, target: Path) -> tuple[str, ...]:
    quantizing = _by_nncf if lowering.bias_correction else _by_onnxruntime
    with quantizing(job, lowering) as (plain, quantized):

        def write(floating: tuple[str, ...], folder: Path) -> None:
            _save(quantized(floating, measured.to_be_timed(job, floating, folder)), job, folder / ENTRY)

        layers = _names(plain.graph)
        choice = measured.choose(job, "onnxruntime", ENTRY, layers, write)
        _save(quantized(choice.layers, job), job, target)
    total = len(weights(job.network)) or len(layers)
    return (*exporters.float_note(lowering.float_layers, total), *choice.notes)


def _save(model: onnx.ModelProto, job: Job, target: Path) -> None:
    if job.float_tail:
        _shorten(model.graph)
    onnx.save(model, target)


def _shorten(graph: onnx.GraphProto) -> None:
    """Drops zero points of zero, shapes and names that nothing needs: an eighth of a small detector in int8."""
    zeros = {t.name for t in graph.initializer if not numpy_helper.to_array(t).any() and t.name.endswith("_zero_point")}
    zeros -= {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.UINT8}  # the type if left out
    kept = {output.name for output in graph.output}
    inner = [name for node in graph.node for name in node.output if name and name not in kept]
    short = {name: f"v{i}" for i, name in enumerate(inner)}
    for node in graph.node:
        node.name = ""
        if node.op_type == "DequantizeLinear" and len(node.input) == 3 and node.input[2] in zeros:
            del node.input[2]
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]
    used = {name for node in graph.node for name in node.input} | kept
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    del graph.value_info[:]


def static_int8(job: Job, step: StaticInt8, choices: Iterable[tuple[str, ...]]) -> Iterator[onnx.ModelProto]:
    """Yields the graph in int8 for each choice of layers that stay in FP32; ranges are found once."""
    with _by_onnxruntime(job, step) as (_, quantized):
        for floating in choices:
            yield quantized(floating, job)


Quantized = Callable[[tuple[str, ...], Job], onnx.ModelProto]
"""Returns the graph in int8 but for layers; ranges not yet found come from the job's calibration."""


@contextlib.contextmanager
def _by_nncf(job: Job, step: StaticInt8) -> Iterator[tuple[onnx.ModelProto, Quantized]]:
    """Yields the FP32 graph, and what quantizes it by NNCF."""
    from compressors.export import post_training  # imported where it is needed: it takes a second

    plain = _named(_graph(job))

    def quantized(floating: tuple[str, ...], given: Job) -> onnx.ModelProto:
        return post_training.quantize(plain, step, given, _float_nodes(plain, floating, job))

    yield plain, quantized


@contextlib.contextmanager
def _by_onnxruntime(job: Job, step: StaticInt8) -> Iterator[tuple[onnx.ModelProto, Quantized]]:
    """Yields the FP32 graph, and what quantizes it by ONNX Runtime's quantizer; ranges are found here, once."""
    prepared, ranges, target = _prepared(job, step.fuse), job.folder / "ranges.json", job.folder / "int8.onnx"
    method, options = _RANGES[step.ranges]
    _save_ranges(prepared, method, options, job, ranges)
    plain = onnx.load(prepared)

    def quantized(floating: tuple[str, ...], given: Job) -> onnx.ModelProto:
        quantization.quantize_static(
            prepared,
            target,
            calibration_data_reader=None,
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=step.granularity == "per-channel",
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            reduce_range=step.range == "reduced",
            calibrate_method=method,
            calibration_cache_path=ranges,
            nodes_to_exclude=_float_nodes(plain, floating, job),
        )
        return onnx.load(target)

    yield plain, quantized
    for path in (prepared, ranges, target):
        path.unlink(missing_ok=True)


def outputs_of_nodes(path: Path) -> dict[str, str]:
    """Returns the first output of each node of a graph in a file, by the node's name."""
    return {node.name: node.output[0] for node in onnx.load(path).graph.node}


def layer_names(job: Job) -> list[str]:
    """Returns the names of the layers that multiply with stored weights, in the graph's order."""
    return _names(_named(_graph(job)).graph)


def _names(graph: onnx.GraphProto) -> list[str]:
    layers = _layers(graph)
    nodes = {node.name for shared in layers.values() for node in shared}
    return [name for name in layers if name not in nodes]


def _float_nodes(model: onnx.ModelProto, names: tuple[str, ...], job: Job) -> list[str]:
    """Returns the names of the nodes that stay in floating point."""
    graph, layers = model.graph, _layers(model.graph)
    nodes = [node for shared in float_parts.named(names, layers) for node in shared]
    if job.float_tail:
        places = {output: index for index, node in enumerate(graph.node) for output in node.output}
        inputs = [[places[name] for name in node.input if name in places] for node in graph.node]
        computed = {index for index, node in enumerate(graph.node) if node.name in layers}
        ends = (places[output.name] for output in graph.output if output.name in places)
        nodes += [graph.node[i] for i in float_parts.tail(ends, inputs.__getitem__, computed.__contains__)]
    return [node.name for node in nodes]


def _layers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """Finds the nodes that multiply with stored weights, by the names of the weights and by their own."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    found = defaultdict[str, list[onnx.NodeProto]](list)
    for node in graph.node:
        weights = [name for name in node.input[:2] if name in stored] if node.op_type in _LAYERS else []
        if weights and not float_parts.is_expectation(numpy_helper.to_array(stored[weights[0]])):
            found[weights[0].removesuffix(".weight")].append(node)
    return found | {node.name: [node] for nodes in found.values() for node in nodes}


def _save_ranges(
    prepared: Path, method: quantization.CalibrationMethod, options: dict[str, object], job: Job, target: Path
) -> None:
    """Writes the range of each activation over the calibration inputs.

    `quantize_static` would do so itself, but with as many bins as levels, where entropy has nothing to choose from.
    """
    assert job.calibration is not None
    minima = method == quantization.CalibrationMethod.MinMax
    batches = job.calibration_batches() if minima else job.calibration.split(1)  # histograms want one size
    augmented = job.folder / "augmented.onnx"
    calibrator = calibrate.create_calibrator(prepared, None, str(augmented), method, extra_options=options)
    calibrator.collect_data(_Calibration(list(batches)))
    calibrate.save_tensors_data(calibrator.compute_data(), target)
    augmented.unlink()


@_write.register
def _dynamic_int8(lowering: DynamicInt8, job: Job, target: Path) -> tuple[str, ...]:
    prepared = _prepared(job, fuse=True)
    quantization.quantize_dynamic(
        prepared,
        target,
        list(_LINEAR),
        per_channel=True,
        reduce_range=True,  # see lowerings.Range
        weight_type=quantization.QuantType.QInt8,
    )
    prepared.unlink()
    return (exporters.dynamic_note(job.network), exporters.BATCH_RANGE)


@_write.register
def _accuracy_aware_int8(lowering: lowerings.AccuracyAwareInt8, job: Job, target: Path) -> tuple[str, ...]:
    from compressors.export import post_training  # imported where it is needed: it takes a second

    plain = _named(_graph(job))
    floating = _float_nodes(plain, lowering.float_layers, job)
    graph = post_training.quantize_within(plain, lowering, job, answering, floating)
    onnx.save(graph, target)
    floats = {tensor.name for tensor in graph.graph.initializer}
    multiplied = [node.input[1] for node in graph.graph.node if node.op_type in _WEIGHTED]
    left = [name.removesuffix(".weight") for name in multiplied if name in floats]
    return exporters.float_note(left, len(weights(job.network)) or len(multiplied))


@_write.register
def _weight_int8(lowering: lowerings.WeightInt8, job: Job, target: Path) -> tuple[str, ...]:
    model = _graph(job)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type in _WEIGHTED and node.input[1] in stored:
            _store_in_int8(model.graph, stored.pop(node.input[1]), _output_axis(node))
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return ("weights are stored in int8, the CPU provider computes in FP32",)


def _store_in_int8(graph: onnx.GraphProto, tensor: onnx.TensorProto, axis: int) -> None:
    """Replaces an initializer by int8 values, their scales along `axis`, and the nodes that multiply the two.

    DequantizeLinear would say the same, but ONNX Runtime then multiplies in every call (ResNet18: 5 times slower
    than FP32), while Cast and Mul of constants are computed once, when the graph is loaded.
    """
    weight = numpy_helper.to_array(tensor)
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=others, keepdims=True), np.finfo(np.float32).tiny) / np.float32(127)
    name, values, scales, cast = tensor.name, f"{tensor.name}_int8", f"{tensor.name}_scale", f"{tensor.name}_cast"
    graph.initializer.remove(tensor)
    graph.initializer.append(numpy_helper.from_array(np.round(weight / scale).astype(np.int8), values))
    graph.initializer.append(numpy_helper.from_array(scale, scales))
    graph.node.insert(0, helper.make_node("Mul", [cast, scales], [name]))
    graph.node.insert(0, helper.make_node("Cast", [values], [cast], to=onnx.TensorProto.FLOAT))


def _output_axis(node: onnx.NodeProto) -> int:
    """Returns the axis of the weight that counts a node's outputs."""
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else -1


def answering(graph: onnx.ModelProto) -> exporters.Answer:
    """Opens a graph with ONNX Runtime."""
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda row: dict(zip(names, session.run(names, row), strict=True))


def save_fp32(job: Job, path: Path) -> None:
    """Writes the FP32 graph with weights inside, a free batch, and no trace of where it was exported.

    Where it is to stay as it is and small, the folding of batch normalization is left to the runtime that loads it.
    """
    onnx.save(_graph(job, fuse=not (job.compressible and isinstance(job.lowering, lowerings.Float32))), path)


def _graph(job: Job, fuse: bool = True) -> onnx.ModelProto:
    """Makes the FP32 graph; the exporter's own optimizer folds batch normalization, so it runs only with `fuse`."""
    if isinstance(job.network, OnnxNetwork):
        return onnx.load_from_string(job.network.graph)
    program = torch.onnx.export(
        job.network,
        (job.example,),
        dynamo=True,
        opset_version=OPSET,
        dynamic_shapes=(exporters.FREE_BATCH,),
        input_names=[INPUT],
        output_names=list(job.outputs),
        verbose=False,
        optimize=fuse,
    )
    assert program is not None
    if not fuse:
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
    model = program.model_proto
    _forget_sources(model)
    onnx.checker.check_model(model)
    return model


def _named(model: onnx.ModelProto) -> onnx.ModelProto:
    """Names the nodes that have no name of their own, so that each can be told from all others."""
    taken = {""}
    for index, node in enumerate(model.graph.node):
        if node.name in taken:
            node.name = f"{node.op_type}_{index}"
        taken.add(node.name)
    return model


def _prepared(job: Job, fuse: bool) -> Path:
    """Writes the FP32 graph as the quantizer wants it: optimized, and with the shapes of all tensors."""
    fp32, prepared = job.folder.resolve() / "fp32.onnx", job.folder.resolve() / "prepared.onnx"
    onnx.save(_named(_graph(job, fuse)), fp32)
    # The optimizer would fold batch normalization; symbolic shapes fail on constants that it has not touched, without
    # auto_merge on sizes that only a resize makes equal, and on some graphs of other exporters: they only help.
    with contextlib.chdir(job.folder):  # where they fail, files are left in the working folder
        try:
            shape_inference.quant_pre_process(
                fp32, prepared, skip_optimization=not fuse, skip_symbolic_shape=not fuse, auto_merge=True
            )
        except Exception:
            shape_inference.quant_pre_process(fp32, prepared, skip_optimization=not fuse, skip_symbolic_shape=True)
    fp32.unlink()
    return prepared


def _forget_sources(model: onnx.ModelProto) -> None:
    """Drops the metadata in which the exporter notes its stack traces."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
    for function in model.functions:
        for part in (function, *function.node, *function.value_info):
            part.ClearField("metadata_props")


class _Calibration(quantization.CalibrationDataReader):  # type: ignore[misc]
    """Batches of calibration inputs, as the quantizer asks for them."""

    def __init__(self, batches: list[torch.Tensor]) -> None:
        self._batches: Iterator[torch.Tensor] = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Returns the next batch, or None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch.numpy()}
