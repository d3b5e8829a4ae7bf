"""A study: the TOML file that declares a comparison, checked whole before any work starts.

model = "digits"                     # its name in the repository
network = "resnet18"                 # a key of models.NETWORKS
data = "digits"                      # a key of data.DATASETS
calibration = 128                    # training images kept for int8 ranges
seed = 0
runtimes = ["pytorch", "onnxruntime"]

[recipes.fp32]                       # a name; every study has this one, the reference
step = "train"                       # a key of recipes.STEPS; its other keys are the step's fields
fit = { epochs = 12, batch = 64, learning_rate = 0.05 }

[recipes.int8]
step = "static-int8"
parent = "fp32"                      # the recipe whose network it starts from
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from compressors.data import DATASETS
from compressors.models import NETWORKS
from compressors.recipes import STEPS, Recipe, StaticInt8, Train
from protos.errors import UsageError
from protos.manifest import Json, RuntimeName
from protos.repository import check_name
from protos.strict import decode

STUDIES = Path(__file__).parent / "studies"
REFERENCE = "fp32"


@dataclass(frozen=True)
class _File:
    """The file as it is written."""

    model: str
    network: str
    data: str
    calibration: int
    runtimes: tuple[RuntimeName, ...]
    recipes: dict[str, dict[str, Json]]
    seed: int = 0


@dataclass(frozen=True)
class Study:
    """A checked study; `recipes` are in an order in which each parent comes before its children."""

    model: str
    network: str
    data: str
    calibration: int
    runtimes: tuple[RuntimeName, ...]
    recipes: tuple[Recipe, ...]
    seed: int
    sha256: str


def load(name: str) -> Study:
    """The study of that name among those that come with the package, or in the file of that path.

    Raises `UsageError`, one line, for the first thing in it that cannot be carried out.
    """
    path = Path(name) if name.endswith(".toml") else STUDIES / f"{name}.toml"
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in STUDIES.glob("*.toml")))
        raise UsageError(f"study '{name}' came, expected one of {known}, or the path of a .toml file") from None
    try:
        file = decode(_File, tomllib.loads(text.decode()), "study")
        return _check(file, hashlib.sha256(text).hexdigest())
    except ValueError as error:
        raise UsageError(f"{path.name}: {error}") from None


def _check(file: _File, digest: str) -> Study:
    check_name(file.model)
    _one_of("study.network", file.network, NETWORKS)
    _one_of("study.data", file.data, DATASETS)
    if not file.runtimes or len(set(file.runtimes)) != len(file.runtimes):
        raise ValueError(f"study.runtimes: {list(file.runtimes)} came, expected at least one, none twice")
    built: dict[str, Recipe] = {}
    for name in file.recipes:
        _resolve(name, file.recipes, built, ())
    reference = built.get(REFERENCE)
    if reference is None or not isinstance(reference.step, Train):
        raise ValueError(f'recipes.{REFERENCE}: every study needs it, with step = "train", as the reference')
    return Study(
        file.model, file.network, file.data, file.calibration, file.runtimes, tuple(built.values()), file.seed, digest
    )


def _resolve(
    name: str, tables: dict[str, dict[str, Json]], built: dict[str, Recipe], children: tuple[str, ...]
) -> Recipe:
    """The recipe `name` with its parents, each added to `built` after them."""
    if name in built:
        return built[name]
    where = f"recipes.{check_name(name)}"
    if name in children:
        raise ValueError(f"{where}: it is its own parent, by {' -> '.join((*children, name))}")
    fields = dict(tables[name])
    kind, parent_name = fields.pop("step", None), fields.pop("parent", None)
    step = decode(STEPS[_one_of(f"{where}.step", kind, STEPS)], fields, where)
    parent = None
    if parent_name is not None:
        parent = _resolve(_one_of(f"{where}.parent", parent_name, tables), tables, built, (*children, name))
        if isinstance(parent.step, StaticInt8):
            raise ValueError(f"{where}.parent: '{parent_name}' is int8, and nothing can follow that")
    if (parent is None) != isinstance(step, Train):
        raise ValueError(f"{where}: step '{kind}' {'needs a' if parent is None else 'takes no'} parent")
    built[name] = Recipe(name, step, parent)
    return built[name]


def _one_of(where: str, name: object, known: Mapping[str, object]) -> str:
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{where}: {name!r} came, expected one of {', '.join(known)}")
    return name
