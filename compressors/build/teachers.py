"""Teachers for distillation: any variant of the repository, run by its adapter, or a `.pt2` program of torch.export.

Where layers are to be seen, the name of a network comes before: `resnet18:MODEL/VARIANT`, with the weights of a
variant that is a PyTorch program, or `resnet18:FILE`, with those of a state dict. A teacher that was built again is
another teacher, and what it taught is trained again.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from compressors.networks import zoo
from compressors.progress import first_line
from compressors.recipes.recipes import Recipe
from compressors.recipes.train import Teacher
from compressors.study import Study
from protos import repository
from protos.errors import UsageError
from protos.manifest import Variant
from protos.repository import Entry
from protos.support.machine import available_cores
from server import runtimes
from server.runtimes.pytorch import ExportedProgram

Shapes = list[list[int]]


def check(studies: Sequence[Study], root: Path) -> None:
    """Raises `UsageError` for the first teacher that is not there and that no earlier model of the studies makes."""
    coming: set[str] = set()
    for study in studies:
        for recipe in study.recipes:
            if (name := named(recipe)) and _source(name)[1] not in coming:
                _find(name, root)
        coming |= {f"{study.model}/{recipe.name}-{runtime}" for recipe in study.recipes for runtime in recipe.runtimes}


def named(recipe: Recipe) -> str | None:
    """Returns the teacher that the recipe's step names."""
    return getattr(recipe.step, "teacher", None)


def fingerprint(name: str, root: Path) -> str:
    """Returns the sha256 of the teacher's files; raises `UsageError` where there is no such teacher."""
    found = _find(name, root)
    if isinstance(found, Path):
        return repository.sha256(found)
    return _variant(found).files_sha256


def load(name: str, root: Path, example: torch.Tensor, classes: int, expected: Shapes) -> Teacher:
    """Opens the teacher; raises `UsageError` without one, or where it does not give `expected` shapes for `example`."""
    network, _ = _source(name)
    found = _find(name, root)
    try:
        if network:
            teacher: Teacher = zoo.restore(network, classes, _weights(found))
        else:
            teacher = ExportedProgram.open(found) if isinstance(found, Path) else _variant_as_teacher(found)
        shapes = shapes_of(teacher, example)
    except Exception as error:  # what its library says of weights that do not fit, or inputs that it cannot take
        raise UsageError(f"teacher '{name}' cannot take inputs {list(example.shape)}: {first_line(error)}") from error
    if shapes != expected:
        got, wanted = (", ".join(map(str, each)) for each in (shapes, expected))
        raise UsageError(f"teacher '{name}' answers {got}, expected {wanted}")
    return teacher


def shapes_of(network: Teacher, example: torch.Tensor) -> Shapes:
    """Returns the shapes of what a network, or a teacher, answers to `example`."""
    with torch.inference_mode():
        answer = network(example)
    return [list(each.shape) for each in ((answer,) if isinstance(answer, torch.Tensor) else answer)]


def _variant_as_teacher(entry: Entry) -> Teacher:
    variant = repository.verify(entry)
    runtime = runtimes.load(entry.folder, variant, available_cores())

    def answer(inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        with torch.autocast("cpu", enabled=False):  # an adapter's answers are arrays, and none are of bfloat16
            outputs = runtime.infer({variant.inputs[0].name: inputs.contiguous().numpy()})
        first, *others = (torch.from_numpy(outputs[spec.name]) for spec in variant.outputs)
        return (first, *others) if others else first

    return answer


def _source(name: str) -> tuple[str | None, str]:
    """Returns the network whose layers are to be seen, if any, and where the teacher comes from."""
    network, _, source = name.partition(":")
    return (network, source) if network in zoo.NETWORKS else (None, name)


def _find(name: str, root: Path) -> Entry | Path:
    network, source = _source(name)
    if (path := Path(source)).is_file() and (network or path.suffix == ".pt2"):
        return path
    if source.endswith((".pt2", ".pt")):
        raise UsageError(f"teacher '{name}' is not a file")
    model, _, variant = source.partition("/")
    for entry in repository.scan_model(root, model) if root.is_dir() else []:
        if entry.name == variant:
            if network and _variant(entry).runtime != "pytorch":
                raise UsageError(f"got teacher '{name}', expected a variant whose runtime is pytorch")
            _variant(entry)
            return entry
    raise UsageError(f"got teacher '{name}', expected a .pt2 file or MODEL/VARIANT of the repository '{root}'")


def _weights(found: Entry | Path) -> dict[str, torch.Tensor]:
    """Reads a network's weights; those of a PyTorch program were not folded into one another."""
    if isinstance(found, Path) and found.suffix != ".pt2":
        weights: dict[str, torch.Tensor] = torch.load(found, weights_only=True)
        return weights
    path = found if isinstance(found, Path) else found.folder / repository.verify(found).entry
    return dict(torch.export.load(path).state_dict)


def _variant(entry: Entry) -> Variant:
    if entry.variant is None:
        raise UsageError(f"teacher '{entry.model}/{entry.name}' is broken: {entry.broken}")
    return entry.variant
