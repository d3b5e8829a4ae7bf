"""What `build` and `shrink` are to work on, by their flags: a study, or a user's own model as a study of its own."""

import argparse
from dataclasses import fields
from pathlib import Path

from compressors import study
from compressors.data.datasets import DATASETS, KIND_OF, Form
from compressors.networks import onnx_graph, onnx_network
from compressors.settings import BuildOptions, OwnModel, ShrinkOptions, UserModel
from compressors.study import Study
from protos.errors import UsageError
from protos.manifest import Decoding
from protos.support import options


def studies(flags: argparse.Namespace) -> tuple[tuple[Study, ...], Path | None]:
    """Returns the studies that the flags ask for and the path of their data, or raises `UsageError`."""
    wanted, user = options.read(BuildOptions, flags), options.read(UserModel, flags)
    kinds = [f"--{name}" for name in ("study", "model", "onnx") if getattr(wanted, name) is not None]
    if len(kinds) != 1:
        raise UsageError(f"got {' and '.join(kinds) or 'nothing to build'}, expected one of --study, --model, --onnx")
    if wanted.study is not None:
        if given := [name for name in vars(user) if getattr(flags, name) is not None]:
            raise UsageError(f"got --{given[0].replace('_', '-')} with --study, expected --model or --onnx with it")
        return study.load(wanted.study), Path(wanted.data) if wanted.data else None
    if wanted.onnx is not None and user.weights:
        raise UsageError("got --weights with --onnx, expected none: the graph's file has them inside")
    return _user_model(wanted, user)


def shrunk(flags: argparse.Namespace) -> tuple[ShrinkOptions, Study, Path | None]:
    """Returns what is asked of a student, the study of the user's model and the path of its data; or raises so."""
    asked = options.read(ShrinkOptions, flags)
    if asked.model is None:
        raise UsageError("--model is missing: your own model needs --name, --data, --model, --weights")
    user = UserModel(**{known.name: getattr(asked, known.name) for known in fields(OwnModel)})
    (own,), data = _user_model(BuildOptions(model=asked.model, data=asked.data), user)
    return asked, own, data


def _user_model(wanted: BuildOptions, user: UserModel) -> tuple[tuple[Study, ...], Path | None]:
    name, data, network, file = user.name, wanted.data, wanted.model, user.weights
    if wanted.onnx is not None:
        network, file = onnx_network.NAME, wanted.onnx
    needed = {"--name": name, "--data": data} | ({"--weights": file} if wanted.model is not None else {})
    if not (name and data and network and file):
        missing = next((flag for flag, value in needed.items() if not value), "--onnx")
        raise UsageError(f"{missing} is missing: your own model needs {', '.join(needed)}")
    known = data in DATASETS and not Path(data).exists()  # such as cifar10, which can be downloaded
    kind = data if known else KIND_OF[user.task](data)
    how = (_form(wanted, user), user.calibration, user.runtimes, user.max_drop, _decoding(user))
    return (study.own(name, network, file, kind, *how),), None if known else Path(data)


def _decoding(user: UserModel) -> Decoding | None:
    given = {name: getattr(user, name) for name in ("keypoints", "iou_threshold") if getattr(user, name) is not None}
    if user.decoder is None and given:
        raise UsageError(f"got --{next(iter(given)).replace('_', '-')} without --decoder, expected both")
    return Decoding(user.decoder, **given) if user.decoder is not None else None


def _form(wanted: BuildOptions, user: UserModel) -> Form:
    size = onnx_graph.input_size(Path(wanted.onnx)) if wanted.onnx else None
    if user.input_shape is not None:
        channels, *rest = user.input_shape
        if channels != 3:
            raise UsageError(f"--input-shape: got {channels} channels, expected 3: images are RGB")
        size = (rest[0], rest[1])
    try:
        return Form(size, user.mean, user.std)
    except ValueError as error:
        raise UsageError(f"--{error}") from None
