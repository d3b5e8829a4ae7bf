"""What `pareto-compress build` is to build, by its flags: a study, or a user's own model as a study of its own."""

import argparse
from pathlib import Path
from typing import get_args

from compressors import study
from compressors.data import user_data
from compressors.data.datasets import DATASETS, Form
from compressors.networks import onnx_network
from compressors.study import Study
from protos.errors import UsageError
from protos.manifest import RuntimeName

CALIBRATION = 256
_OF_OWN = ("weights", "name", "input_shape", "mean", "std", "calibration", "runtimes")


def studies(flags: argparse.Namespace) -> tuple[tuple[Study, ...], Path | None]:
    """The studies that the flags mean, and where their data lies; `UsageError` for flags that do not go together."""
    if flags.study:
        if given := [name for name in _OF_OWN if getattr(flags, name) is not None]:
            raise UsageError(f"got --{given[0].replace('_', '-')} with --study, expected --model or --onnx with it")
        return study.load(flags.study), Path(flags.data) if flags.data else None
    needed = ("name", "data", "weights") if flags.model else ("name", "data")
    if missing := [name for name in needed if getattr(flags, name) is None]:
        raise UsageError(f"--{missing[0]} is missing: your own model needs {', '.join(f'--{n}' for n in needed)}")
    if flags.onnx and flags.weights:
        raise UsageError("got --weights with --onnx, whose file has them inside")
    return _own(flags)


def _own(flags: argparse.Namespace) -> tuple[tuple[Study, ...], Path | None]:
    known = flags.data in DATASETS and not Path(flags.data).exists()  # such as cifar10, which can be downloaded
    kind = flags.data if known else user_data.kind_of(flags.data)
    network, file = (flags.model, flags.weights) if flags.model else (onnx_network.NAME, flags.onnx)
    calibration = flags.calibration if flags.calibration is not None else CALIBRATION
    runtimes = tuple(flags.runtimes or get_args(RuntimeName))
    declared = study.own(flags.name, network, file, kind, _form(flags), calibration, runtimes)
    return (declared,), None if known else Path(flags.data)


def _form(flags: argparse.Namespace) -> Form:
    size = onnx_network.input_size(Path(flags.onnx)) if flags.onnx else None
    if flags.input_shape is not None:
        channels, *rest = flags.input_shape
        if channels != 3:
            raise UsageError(f"--input-shape has {channels} channels, expected 3: images are RGB")
        size = (rest[0], rest[1])
    try:
        return Form(size, flags.mean, flags.std)
    except ValueError as error:
        raise UsageError(f"--{error}") from None
