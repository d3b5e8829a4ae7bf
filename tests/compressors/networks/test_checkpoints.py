"""PyTorch as people have it: factories, and checkpoints as the common training frameworks write them."""

import argparse
import copy
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from compressors.export import exporters
from compressors.export.lowerings import FLOAT32
from compressors.networks import contract, user_network, zoo
from compressors.networks.layers import INPUT, OUTPUT, with_plain_weights
from protos.errors import UsageError
from protos.manifest import RuntimeName
from server import runtimes
from tests.support.compressors.artifacts import described
from tests.support.compressors.small import Small, classes

THEIRS = """
import torch
from torch import nn

def several(depth, num_classes):
    return nn.Linear(depth, num_classes)

def required(depth, width):
    return nn.Linear(depth, width)

def options(**settings):
    return nn.Linear(3, settings["num_classes"])

def lazy(num_classes):
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))

def on_gpu(num_classes):
    raise AssertionError("Torch not compiled with CUDA enabled\\nsecond line")
"""


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a user with a file of factories."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("factories.py").write_text(THEIRS)
    Path("broken.py").write_text("def make(:\n")
    Path("script.py").write_text("import sys\nsys.exit('usage: script.py DATA')\n")
    yield tmp_path
    for module in ("factories", "broken", "script"):
        sys.modules.pop(module, None)


def test_factories_get_the_class_count() -> None:
    network = user_network.factory("torchvision.models:resnet18")(7)
    assert network.state_dict()["fc.weight"].shape == (7, 512)


def test_options_of_any_name_may_hold_the_class_count(theirs: Path) -> None:
    network = user_network.factory("factories:options")(7)
    assert isinstance(network, nn.Linear)
    assert network.out_features == 7


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("factories:several", "it needs depth, num_classes, expected a factory that needs the number of classes alone"),
        ("factories:required", "it needs depth, width, expected"),
        ("factories:lazy", "got '1.weight' of a lazy layer, expected layers that know their sizes"),
        ("factories:on_gpu", "it fails: AssertionError: Torch not compiled with CUDA enabled"),
        ("broken:make", "invalid syntax"),
        ("script:make", "usage: script.py DATA"),
    ],
)
def test_a_factory_that_cannot_be_called_is_one_line(theirs: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        user_network.factory(name)(3)
    assert str(error.value).startswith(f"--model {name}: ")
    assert "\n" not in str(error.value)


State = dict[str, torch.Tensor]


class AttributeDict(dict[str, object]):
    """As Lightning has them, and one that is not there when the file is read."""


def lightning(state: State) -> object:
    named = {f"model.{name}": value for name, value in state.items()} | {"criterion.weight": torch.ones(3)}
    settings = AttributeDict(rate=0.1, folder=Path("data"), args=argparse.Namespace(epochs=3))
    return {"epoch": 3, "state_dict": named, "hyper_parameters": settings, "pytorch-lightning_version": "2.5.0"}


def timm(state: State) -> object:
    optimizer = torch.optim.SGD([torch.ones(2, requires_grad=True)], 0.1).state_dict()
    best = np.float64(0.9)
    return {"arch": "x", "state_dict": state, "optimizer": optimizer, "args": argparse.Namespace(lr=1), "metric": best}


def compiled(state: State) -> object:
    return {"model": {f"_orig_mod.{name}": value for name, value in state.items()}, "epoch": torch.tensor(3)}


def averaged(state: State) -> object:
    return {"n_averaged": torch.tensor(9)} | {f"module.{name}": value for name, value in state.items()}


def partly_parallel(state: State) -> object:
    return {name.replace("stem.", "stem.module."): value for name, value in state.items()}


def deepspeed(state: State) -> object:
    return {"module": state, "optimizer": None, "mp_world_size": 1}


def history(state: State) -> object:
    return {"meta": {"seed": np.arange(3)}, "message_hub": AttributeDict(loss=np.ones(2)), "state_dict": state}


def half(state: State) -> object:
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


FRAMEWORKS = [lightning, timm, compiled, averaged, partly_parallel, deepspeed, history, half]


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=[framework.__name__ for framework in FRAMEWORKS])
def test_checkpoints_load_as_frameworks_write_them(framework: Callable[[State], object], tmp_path: Path) -> None:
    written, read = Small(), Small()
    torch.save(framework(written.state_dict()), tmp_path / "last.ckpt")
    user_network.load(read, tmp_path / "last.ckpt")
    torch.testing.assert_close(read.state_dict(), written.state_dict(), atol=1e-3, rtol=1e-3)


def test_a_layer_of_its_own_may_be_called_module(tmp_path: Path) -> None:
    written, read = (nn.ModuleDict({"head": nn.ModuleDict({"module": nn.Linear(2, 2)})}) for _ in range(2))
    torch.save(written.state_dict(), tmp_path / "weights.pt")
    user_network.load(read, tmp_path / "weights.pt")
    torch.testing.assert_close(read.state_dict(), written.state_dict())


def test_safetensors_load(tmp_path: Path) -> None:
    written, read = Small(), Small()
    save_file(written.state_dict(), tmp_path / "model.safetensors")
    user_network.load(read, tmp_path / "model.safetensors")
    torch.testing.assert_close(read.state_dict(), written.state_dict())


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return shutil.copyfile, ("last.ckpt", "touched")


def test_no_code_in_a_checkpoint_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Small().state_dict(), "harm": Harmful()}, "last.ckpt")
    user_network.load(Small(), Path("last.ckpt"))
    assert not Path("touched").exists()


def test_a_whole_network_is_no_state_dict(tmp_path: Path) -> None:
    torch.save({"model": Small()}, tmp_path / "whole.pt")
    with pytest.raises(UsageError, match=r"whole\.pt: it holds no state dict.*not a whole network"):
        user_network.load(Small(), tmp_path / "whole.pt")


def normed(how: Callable[[nn.Module], object]) -> nn.Module:
    network = Small()
    torch.manual_seed(1)
    how(network.stem[0])
    how(network.classifier)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    return network.eval()


HOW: dict[str, Callable[[nn.Module], object]] = {
    "weight-norm-hook": weight_norm,
    "weight-norm": parametrizations.weight_norm,
    "spectral-norm-hook": spectral_norm,
    "spectral-norm": parametrizations.spectral_norm,
    "mask": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("how", list(HOW.values()), ids=list(HOW))
def test_weights_that_each_call_makes_of_others_become_plain_ones(
    how: Callable[[nn.Module], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(zoo.NETWORKS, "normed", lambda classes: normed(how))
    written = normed(how)
    inputs = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        expected = written(inputs)
    torch.save(written.state_dict(), tmp_path / "weights.pt")
    network = zoo.create("normed", 3, 0)
    user_network.load(network, tmp_path / "weights.pt")
    contract.check(network, (3, 8, 8), classes(3))
    restored = zoo.restore("normed", 3, network.state_dict())
    assert restored.state_dict().keys() == Small().state_dict().keys()
    copy.deepcopy(restored)
    with torch.no_grad():
        torch.testing.assert_close(restored(inputs), expected)


def test_a_network_with_weight_norm_is_exported(tmp_path: Path) -> None:
    network, inputs = with_plain_weights(normed(parametrizations.weight_norm)), torch.rand(2, 3, 8, 8)
    runtime: RuntimeName = "torchscript"
    job = exporters.Job(network, inputs, FLOAT32, None, tmp_path / "artifact")
    entry = exporters.export(exporters.EXPORTERS[runtime], job).entry
    answer = runtimes.load(job.folder, described(job.folder, runtime, entry), 1).infer({INPUT: inputs.numpy()})[OUTPUT]
    np.testing.assert_allclose(answer, network(inputs).detach().numpy(), atol=1e-5)
