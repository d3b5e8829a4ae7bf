"""A user's own network: its factory in a Python file, and its weights in a file of their own.

Neither needs to know this project. A factory `package.module:name` is called with the number of classes where
it takes that, else without arguments. Weights are a state dict that `torch.load(weights_only=True)` or safetensors
reads; in a wrapper such as {"state_dict": ...}, beside other things, and behind a prefix such as `module.` they are
taken too, since training scripts and frameworks save them so. SCRFD takes them from a graph in ONNX as well.
"""

import importlib
import inspect
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.parameter import UninitializedParameter

from compressors.data.user_data import imported
from compressors.networks import scrfd_weights
from compressors.networks.layers import with_plain_weights
from compressors.networks.onnx_graph import Size, read_graph
from compressors.networks.onnx_network import OnnxNetwork
from compressors.progress import first_line
from protos.errors import UsageError
from protos.repository import sha256

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "network", "net", "weights", "params")
"""What frameworks call the state dict in a checkpoint."""
_INNER = re.compile(r"\.(module|_orig_mod)(?=\.)")
"""What DataParallel and torch.compile put into names where they wrap a part of a network."""
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_CLASSES = ("num_classes", "classes", "n_classes", "nclasses")


def factory(name: str) -> Callable[[int], nn.Module]:
    """Makes the user's `package.module:name` a function of the number of classes; raises `UsageError` without it."""
    function = imported(name, "--model")

    def make(classes: int) -> nn.Module:
        try:
            made = _called(function, classes)
        except UsageError as error:
            raise UsageError(f"--model {name}: {error}") from None
        except Exception as error:  # a user's code fails in its own way
            raise UsageError(f"--model {name}: it fails: {type(error).__name__}: {first_line(error)}") from None
        if not isinstance(made, nn.Module):
            raise UsageError(f"--model {name}: it makes a {type(made).__name__}, expected a torch.nn.Module")
        if lazy := [path for path, p in made.named_parameters() if isinstance(p, UninitializedParameter)]:
            raise UsageError(f"--model {name}: got '{lazy[0]}' of a lazy layer, expected layers that know their sizes")
        return made

    return make


def _called(function: Callable[..., object], classes: int) -> object:
    """Calls a factory with the number of classes, by name or as its one argument, or without it."""
    parameters = inspect.signature(function).parameters
    required = [p.name for p in parameters.values() if p.default is p.empty and p.kind not in _VARIABLE]
    named = [parameter for parameter in _CLASSES if parameter in parameters]
    if named and set(required) <= {named[0]} and parameters[named[0]].kind is not inspect.Parameter.POSITIONAL_ONLY:
        return function(**{named[0]: classes})
    if len(required) == 1:
        return function(classes)
    if required:
        raise UsageError(f"it needs {', '.join(required)}, expected a factory that needs the number of classes alone")
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):  # as torchvision's factories
        try:
            return function(num_classes=classes)
        except TypeError as error:
            if "num_classes" not in str(error):
                raise
    return function()


def code_sha256(name: str) -> str:
    """Returns the hash of the file that the factory is written in: other code is another network."""
    function = imported(name, "--model")
    source = inspect.getsourcefile(importlib.import_module(function.__module__))
    return sha256(Path(source)) if source else ""


def load(network: nn.Module, path: Path, size: Size | None = None) -> None:
    """Puts what is in the file into `network`, for images of `size`; raises `UsageError` where it does not fit."""
    if isinstance(network, OnnxNetwork):
        network.graph = read_graph(path, size)
    elif path.suffix == ".onnx":
        scrfd_weights.load(network, path)
    else:
        _fill(network, _weights(path), path.name)
        with_plain_weights(network)
    network.eval()


def _weights(path: Path) -> dict[str, torch.Tensor]:
    """Reads the state dict in a file, out of its wrapper."""
    found = _read(path)
    while wrapper := next((w for w in _WRAPPERS if isinstance(found, Mapping) and _holds(found.get(w))), None):
        found = found[wrapper]  # type: ignore[index]
    if not _holds(found):
        raise UsageError(f"{path.name}: it holds no state dict, expected names and tensors, not a whole network")
    return {name: value for name, value in found.items() if isinstance(value, torch.Tensor)}  # type: ignore[attr-defined]


def _holds(found: object) -> bool:
    """Returns whether this is a state dict, or a mapping with one further inside."""
    if not isinstance(found, Mapping):
        return False
    return any(isinstance(v, torch.Tensor) for v in found.values()) or any(_holds(found.get(w)) for w in _WRAPPERS)


def _read(path: Path) -> object:
    """Reads a file of `torch.save` or safetensors; no code in it runs, and objects other than tensors come empty."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        unknown = torch.serialization.get_unsafe_globals_in_checkpoint(path) if is_zipfile(path) else []
        with torch.serialization.safe_globals([(_empty(name), name) for name in unknown]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # its texts advise to read anything
        raise UsageError(
            f"{path.name}: torch.load(weights_only=True) does not read it, expected a state dict and nothing else"
        ) from None


def _empty(name: str) -> type:
    """Makes what stands for a class or function of another program: what it makes is empty, and stays so."""

    def new(cls: type, *_: object, **__: object) -> object:
        return object.__new__(cls) if name.startswith("numpy") else OrderedDict()  # which may be given items

    return type(name.rpartition(".")[2], (), {"__new__": new, "__setstate__": lambda self, state: None})


def _fill(network: nn.Module, weights: dict[str, torch.Tensor], file: str) -> None:
    wanted = network.state_dict()
    if not any(map(_INNER.search, wanted)):
        weights = {_INNER.sub("", name): value for name, value in weights.items()}
    prefix = _prefix(wanted, weights)
    if prefix:  # what stands beside the network, such as a loss, is none of it
        weights = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
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


def _prefix(wanted: Mapping[str, object], weights: Mapping[str, object]) -> str:
    """Returns what stands before the network's names in a file, such as DataParallel's `module.`."""
    if not wanted:
        return ""
    first = next((name for name in wanted if not name.endswith("num_batches_tracked")), "")
    prefixes = {name.removesuffix(first) for name in weights if name == first or name.endswith(f".{first}")}
    return max(sorted(prefixes), key=lambda p: sum(f"{p}{name}" in weights for name in wanted), default="")
