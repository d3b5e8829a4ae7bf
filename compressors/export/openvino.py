"""OpenVINO artifacts: intermediate representation, quantized and compressed by NNCF.

The graph comes from the ONNX export, so that both runtimes are given the same one.
Sources: https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/weight-compression.html,
https://docs.openvino.ai/2026/openvino-workflow/running-inference/optimize-inference/precision-control.html
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import singledispatch
from pathlib import Path

import openvino
import torch

from compressors.export import exporters, float_parts, lowerings, measured, post_training
from compressors.export.exporters import Exported, Job
from compressors.export.onnxruntime import outputs_of_nodes, save_fp32
from compressors.networks.pixels import Floats, PixelInput
from protos import packing

ENTRY = "model.xml"
ONNX = "fp32.onnx"

GROUP = 32
"""Inputs of a linear layer that share one scale where they are quantized in each call; the CPU plugin's default."""

_TRANSPOSED = ("ConvolutionBackpropData", "GroupConvolutionBackpropData")
_WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")

Lowered = tuple[openvino.Model, tuple[str, ...]]
"""The model as it is to be written, and the notes on it."""


def export(job: Job) -> Exported:
    """Writes `model.xml` and `model.bin`."""
    if isinstance(job.network, PixelInput):
        # What makes floats of pixels is left to the adapter: it is cheaper there, and where a Transpose comes before
        # the first convolution, the plugin (2026.4) answers nonsense in int8.
        calibration = None if job.calibration is None else _planes(job.calibration)
        job = replace(job, network=job.network.on_planes(), example=_planes(job.example), calibration=calibration)
    onnx = job.folder / ONNX
    save_fp32(job, onnx)
    model, notes = _lowered(job.lowering, openvino.Core().read_model(onnx), job)
    openvino.save_model(model, job.folder / ENTRY, compress_to_fp16=isinstance(job.lowering, lowerings.Float16))
    onnx.unlink()
    if job.float_tail:  # the text of a small detector in int8 is as large as its weights
        packing.pack(job.folder, ENTRY)
    return Exported(ENTRY, notes)


def _planes(pixels: torch.Tensor) -> torch.Tensor:
    """Returns pixels uint8 (N, H, W, 3) as floats (N, 3, H, W)."""
    planes: torch.Tensor = Floats(torch.float32)(pixels).contiguous()
    return planes


@singledispatch
def _lowered(lowering: lowerings.Lowering, model: openvino.Model, job: Job) -> Lowered:
    """Lowers the model; FP32, for which nothing is registered below, stays as it is."""
    return model, ()


@_lowered.register
def _float16(lowering: lowerings.Float16, model: openvino.Model, job: Job) -> Lowered:
    return model, ("weights are stored in FP16, the CPU plugin computes in FP32",)


@_lowered.register
def _bfloat16(lowering: lowerings.BFloat16, model: openvino.Model, job: Job) -> Lowered:
    # The manifest's precision is what the adapter asks the plugin for.
    return model, ("weights are stored in FP32, the CPU plugin computes in BF16",)


@_lowered.register
def _static_int8(lowering: lowerings.StaticInt8, model: openvino.Model, job: Job) -> Lowered:
    def write(floating: tuple[str, ...], folder: Path) -> None:
        given = measured.to_be_timed(job, floating, folder)
        timed = post_training.quantize(model.clone(), lowering, given, _float_nodes(model, floating, job))
        openvino.save_model(timed, folder / ENTRY, compress_to_fp16=False)

    choice = measured.choose(job, "openvino", ENTRY, list(_by_weights(model)), write)
    note = exporters.float_note(lowering.float_layers, len({n for names in _layers(model).values() for n in names}))
    floating = _float_nodes(model, choice.layers, job)
    return post_training.quantize(model, lowering, job, floating), (*note, *choice.notes)


@_lowered.register
def _accuracy_aware_int8(lowering: lowerings.AccuracyAwareInt8, model: openvino.Model, job: Job) -> Lowered:
    def answering(opened: openvino.CompiledModel) -> exporters.Answer:
        def answer(row: exporters.Inputs) -> exporters.Inputs:
            outputs = opened(row, share_outputs=False)
            return {name: outputs[name] for name in job.outputs}

        return answer

    floats = _float_nodes(model, lowering.float_layers, job)
    quantized = post_training.quantize_within(model, lowering, job, answering, floats)
    weights = _weights(quantized)
    floating = [name for name, node in weights.items() if node.get_element_type() == openvino.Type.f32]
    return quantized, exporters.float_note(floating, len(weights))


@_lowered.register
def _dynamic_int8(lowering: lowerings.DynamicInt8, model: openvino.Model, job: Job) -> Lowered:
    compressed = post_training.compress_weights(model, "Convolution", "GroupConvolution")
    _group_size(compressed, GROUP)
    return compressed, (exporters.dynamic_note(job.network),)


@_lowered.register
def _weight_int8(lowering: lowerings.WeightInt8, model: openvino.Model, job: Job) -> Lowered:
    compressed = post_training.compress_weights(model)
    _group_size(compressed, 0)  # none: left to itself, the plugin quantizes the inputs of linear layers too
    return compressed, ("weights are stored in int8, the CPU plugin computes in FP32",)


def _group_size(model: openvino.Model, size: int) -> None:
    """Fixes how the plugin quantizes activations in each call, as an option that the model carries to it."""
    model.set_rt_info(str(size), ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])


def _float_nodes(model: openvino.Model, names: tuple[str, ...], job: Job) -> list[str]:
    """Returns the names of the nodes that stay in floating point."""
    layers = _layers(model)  # OpenVINO calls what an ONNX node became by the node's output
    by_output = outputs_of_nodes(job.folder / ONNX).items() if names else ()
    layers |= {name: [output] for name, output in by_output if output in layers}
    nodes = [name for shared in float_parts.named(names, layers) for name in shared]
    if job.float_tail:
        operations = {node.get_friendly_name(): node for node in model.get_ops()}

        def before(name: str) -> list[str]:
            return [value.get_node().get_friendly_name() for value in operations[name].input_values()]

        ends = [result.get_friendly_name() for result in model.get_results()]
        nodes += float_parts.tail(ends, before, layers.__contains__)
    return nodes


def _layers(model: openvino.Model) -> dict[str, list[str]]:
    """Finds the names of the operations that multiply with stored weights, by their own and by those of the weights."""
    found = _by_weights(model)
    return found | {name: [name] for names in found.values() for name in names}


def _by_weights(model: openvino.Model) -> dict[str, list[str]]:
    """Finds the names of the operations that multiply with stored weights by those of the weights, in their order."""
    found = defaultdict[str, list[str]](list)
    for node, weight in _multiplied(model):
        if not float_parts.is_expectation(weight.data):
            found[weight.get_friendly_name().removesuffix(".weight")].append(node.get_friendly_name())
    return found


def _weights(model: openvino.Model) -> dict[str, openvino.Node]:
    """Finds the constant that each convolution and linear layer multiplies with, by the name of the layer."""
    constants = (weight for node, weight in _multiplied(model) if node.get_type_name() in _WEIGHTED)
    return {node.get_friendly_name().partition("/")[0].removesuffix(".weight"): node for node in constants}


def _multiplied(model: openvino.Model) -> Iterator[tuple[openvino.Node, openvino.Node]]:
    """Yields the operations that multiply with a constant, and that constant."""
    for operation in model.get_ordered_ops():
        if operation.get_type_name() in (*_WEIGHTED, *_TRANSPOSED):
            node = operation.input_value(1).get_node()
            while node.get_input_size():  # of int8 weights: Convert, Subtract, Multiply; of groups: Reshape
                node = node.input_value(0).get_node()
            if node.get_type_name() == "Constant":
                yield operation, node
