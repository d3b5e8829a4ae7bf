"""A user's own network: its factory in a Python file, and its weights in a file of their own.

Neither needs to know this project. A factory `package.module:name` is called with the number of classes where
it takes that, else without arguments. Weights are a state dict that `torch.load(weights_only=True)` reads; wrapped
in {"state_dict": ...} and prefixed with `module.` they are taken too, since training scripts save them so.
"""

import importlib
import inspect
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from compressors.data.user_data import imported
from compressors.networks.onnx_graph import Size, read_graph
from compressors.networks.onnx_network import OnnxNetwork
from protos.errors import UsageError
from protos.repository import sha256

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before names."""
_CLASSES = ("num_classes", "classes", "n_classes", "nclasses")


def factory(name: str) -> Callable[[int], nn.Module]:
    """Makes the user's `package.module:name` a function of the number of classes; raises `UsageError` without it."""
    function = imported(name, "--model")

    def make(classes: int) -> nn.Module:
        made = _called(function, classes)
        if not isinstance(made, nn.Module):
            raise UsageError(f"--model {name}: it makes a {type(made).__name__}, expected a torch.nn.Module")
        return made

    return make


def _called(function: Callable[..., object], classes: int) -> object:
    parameters = inspect.signature(function).parameters
    if named := [parameter for parameter in _CLASSES if parameter in parameters]:
        return function(**{named[0]: classes})
    required = [
        p for p in parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]  # fmt: skip
    return function(classes) if len(required) == 1 else function()


def code_sha256(name: str) -> str:
    """Returns the hash of the file that the factory is written in: other code is another network."""
    function = imported(name, "--model")
    source = inspect.getsourcefile(importlib.import_module(function.__module__))
    return sha256(Path(source)) if source else ""


def load(network: nn.Module, path: Path, size: Size | None = None) -> None:
    """Puts what is in the file into `network`, for images of `size`; raises `UsageError` where it does not fit."""
    if isinstance(network, OnnxNetwork):
        network.graph = read_graph(path, size)
    else:
        _fill(network, _weights(path), path.name)
    network.eval()


def _weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads the state dict in a file, without wrappers and prefixes."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):  # its texts advise to read anything
        raise UsageError(
            f"{path.name}: torch.load(weights_only=True) does not read it, expected a state dict and nothing else"
        ) from None
    for wrapper in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise UsageError(f"{path.name}: it holds no state dict, expected names and tensors")
    weights = dict(found)
    for prefix in _PREFIXES:
        if weights and all(name.startswith(prefix) for name in weights):
            weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _fill(network: nn.Module, weights: dict[str, torch.Tensor], file: str) -> None:
    wanted = network.state_dict()
    # A batch norm's counter is missing in old files, and inference does not need it.
    missing = [name for name in wanted.keys() - weights.keys() if not name.endswith("num_batches_tracked")]
    problems = [f"'{n}' is not in the file" for n in missing]
    problems += [f"'{n}' is not in the network" for n in weights.keys() - wanted.keys()]
    problems += [
        f"'{n}' has shape {list(weights[n].shape)}, the network's has {list(wanted[n].shape)}"
        for n in wanted.keys() & weights.keys()
        if wanted[n].shape != weights[n].shape
    ]
    if problems:
        others = f" ({len(problems) - 1} more like this)" if len(problems) > 1 else ""
        raise UsageError(f"{file}: the weights do not fit the network: {min(problems)}{others}")
    network.load_state_dict(weights, strict=False)
