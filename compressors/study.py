"""A study: the TOML file that declares a comparison, checked whole before any work starts.

models = { digits = "resnet18" }      # names in the repository, each with a key of models.NETWORKS,
                                     # or a user's own, "package.module:factory"
data = "digits"                      # a key of data.DATASETS, or the form of a user's own (own_data.KINDS)
calibration = 128                    # training images kept for int8 ranges
seed = 0
runtimes = ["pytorch", "onnxruntime"]
input = { mean = [0.5, 0.5, 0.5] }   # fields of data.Form, where the data set's own is not right

[recipes.fp32]                       # a name; every study has this one, the reference
step = "train"                       # or "load"; a key of recipes.STEPS; its other keys are the step's fields
fit = { epochs = 12, batch = 64, learning_rate = 0.05 }

[recipes.int8]
step = "static-int8"
parent = "fp32"                      # the recipe whose network it starts from
models = ["digits"]                  # not for all models of the study
runtimes = ["onnxruntime"]           # not for all runtimes of the study

[published.digits]                   # figures of others, shown beside the measured ones of that model's variants
int8-onnxruntime = "1.51 ms, 11.3 MB"
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from compressors.data.datasets import OWN_FORM, Form, known
from compressors.export.exporters import refusal
from compressors.export.lowerings import Lowering
from compressors.networks import onnx_network
from compressors.networks.user_network import LoadFile
from compressors.networks.zoo import NETWORKS
from compressors.recipes.recipes import STEPS, Recipe, Step
from compressors.recipes.steps import FIRST_STEPS
from protos.errors import UsageError
from protos.manifest import Json, RuntimeName
from protos.repository import check_name
from protos.support.strict import decode

STUDIES = Path(__file__).parent / "studies"
REFERENCE = "fp32"


@dataclass(frozen=True)
class _File:
    """The file as it is written."""

    models: dict[str, str]
    data: str
    calibration: int
    runtimes: tuple[RuntimeName, ...]
    recipes: dict[str, dict[str, Json]]
    seed: int = 0
    input: Form = OWN_FORM
    published: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Scope:
    """The keys of a recipe that say what it is for."""

    models: tuple[str, ...]
    runtimes: tuple[RuntimeName, ...]


Steps = Mapping[str, Step]
"""Recipe to step, each decoded once for all models: `load` hashes its file when it is made."""


@dataclass(frozen=True)
class Study:
    """What is to be built of one model; `recipes` are in an order in which each parent comes before its children."""

    model: str
    network_name: str
    data: str
    calibration: int
    runtimes: tuple[RuntimeName, ...]
    recipes: tuple[Recipe, ...]
    seed: int
    sha256: str
    form: Form = OWN_FORM
    published: Mapping[str, str] = field(default_factory=dict)
    """Variant to what a source reports of the same, in its own words."""


def load(name: str) -> tuple[Study, ...]:
    """The study of that name among those that come with the package, or in the file of that path, model by model.

    Raises `UsageError`, one line, for the first thing in it that cannot be carried out.
    """
    path = Path(name) if name.endswith(".toml") else STUDIES / f"{name}.toml"
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in STUDIES.glob("*.toml")))
        raise UsageError(f"got study '{name}', expected one of {known}, or the path of a .toml file") from None
    try:
        file = decode(_File, tomllib.loads(text.decode()), "study")
        return _check(file, hashlib.sha256(text).hexdigest())
    except ValueError as error:
        raise UsageError(f"{path.name}: {error}") from None


def own(
    name: str, network: str, file: str, data: str, form: Form, calibration: int, runtimes: tuple[RuntimeName, ...]
) -> Study:
    """The study of a user's own model: `file` loaded into `network`, FP32 and int8 in `runtimes`.

    Raises `UsageError`, one line, where it cannot be carried out.
    """
    recipes: dict[str, dict[str, Json]] = {
        REFERENCE: {"step": "load", "file": file},
        "int8": {"step": "static-int8", "parent": REFERENCE},
    }
    sha256 = hashlib.sha256(repr((network, data, form, calibration)).encode()).hexdigest()
    try:
        (study,) = _check(_File({name: network}, data, calibration, runtimes, recipes, input=form), sha256)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return study


def _check(file: _File, sha256: str) -> tuple[Study, ...]:
    _one_of("study.data", file.data, known())
    if not file.models:
        raise ValueError("study.models: got none, expected at least one")
    for model, network in file.models.items():
        where = f"study.models.{check_name(model)}"
        if ":" not in network:
            _one_of(where, network, NETWORKS)
    _runtimes("study.runtimes", file.runtimes)
    for model in file.published:
        _one_of("study.published", model, file.models)
    scopes = {name: _scope(name, table, file) for name, table in file.recipes.items()}
    steps = {name: _step(f"recipes.{name}", table) for name, table in file.recipes.items()}
    for name, (scope, named) in scopes.items():
        _check_runtimes(name, scope.runtimes if named else (), steps[name], file.recipes[name])
    return tuple(
        _study(model, file, {n: scope for n, (scope, _) in scopes.items()}, steps, sha256) for model in file.models
    )


def _scope(name: str, table: dict[str, Json], file: _File) -> tuple[_Scope, bool]:
    """What the recipe is for, and whether it names its runtimes; these keys are taken out of `table`."""
    where = f"recipes.{check_name(name)}"
    own = {key: table.pop(key) for key in ("models", "runtimes") if key in table}
    scope = decode(_Scope, {"models": list(file.models), "runtimes": list(file.runtimes)} | own, where)
    for model in scope.models:
        _one_of(f"{where}.models", model, file.models)
    _runtimes(f"{where}.runtimes", scope.runtimes)
    return scope, "runtimes" in own


def _check_runtimes(name: str, runtimes: tuple[RuntimeName, ...], step: Step, table: dict[str, Json]) -> None:
    """`ValueError` where a recipe names a runtime that cannot take its step."""
    for runtime in runtimes:
        if isinstance(step, Lowering) and (reason := refusal(step, runtime)):
            raise ValueError(f"recipes.{name}.runtimes: {runtime} cannot take '{table['step']}': {reason}")


def _study(model: str, file: _File, scopes: dict[str, _Scope], steps: Steps, sha256: str) -> Study:
    tables = {name: table for name, table in file.recipes.items() if model in scopes[name].models}
    built: dict[str, Recipe] = {}
    for name in tables:
        _resolve(name, tables, steps, built, ())
    reference = built.get(REFERENCE)
    if reference is None or not isinstance(reference.step, FIRST_STEPS):
        raise ValueError(f'recipes.{REFERENCE}: every model needs it, with step = "train" or "load", as the reference')
    if file.models[model] == onnx_network.NAME:
        _only_lowered(built)
    recipes = tuple(replace(recipe, runtimes=scopes[recipe.name].runtimes) for recipe in built.values())
    network, published = file.models[model], file.published.get(model, {})
    variants = {f"{recipe.name}-{runtime}": None for recipe in recipes for runtime in recipe.runtimes}
    for variant in published:
        _one_of(f"study.published.{model}", variant, variants)
    return Study(
        model, network, file.data, file.calibration, file.runtimes, recipes, file.seed, sha256, file.input, published
    )


def _only_lowered(built: Mapping[str, Recipe]) -> None:
    for recipe in built.values():
        if not isinstance(recipe.step, Lowering | LoadFile):
            kind = recipe.chain()[-1].name
            raise ValueError(f"recipes.{recipe.name}: step '{kind}' needs a PyTorch network, an ONNX graph is none")


def _resolve(
    name: str, tables: dict[str, dict[str, Json]], steps: Steps, built: dict[str, Recipe], children: tuple[str, ...]
) -> Recipe:
    """The recipe `name` with its parents, each added to `built` after them."""
    if name in built:
        return built[name]
    where = f"recipes.{name}"
    if name in children:
        raise ValueError(f"{where}: it is its own parent, by {' -> '.join((*children, name))}")
    step, parent, parent_name = steps[name], None, tables[name].get("parent")
    if parent_name is not None:
        parent = _resolve(_one_of(f"{where}.parent", parent_name, tables), tables, steps, built, (*children, name))
        if isinstance(parent.step, Lowering):
            kind = tables[parent.name]["step"]
            raise ValueError(f"{where}.parent: '{parent_name}' ends with '{kind}', and nothing can follow that")
    if (parent is None) != isinstance(step, FIRST_STEPS):
        kind = tables[name]["step"]
        raise ValueError(f"{where}: step '{kind}' {'needs a' if parent is None else 'takes no'} parent")
    built[name] = Recipe(name, step, parent)
    return built[name]


def _step(where: str, table: dict[str, Json]) -> Step:
    fields = {key: value for key, value in table.items() if key not in ("step", "parent")}
    return decode(STEPS[_one_of(f"{where}.step", table.get("step"), STEPS)], fields, where)


def _runtimes(where: str, runtimes: tuple[RuntimeName, ...]) -> None:
    if not runtimes or len(set(runtimes)) != len(runtimes):
        raise ValueError(f"{where}: got {list(runtimes)}, expected at least one, none twice")


def _one_of(where: str, name: object, known: Mapping[str, object]) -> str:
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{where}: got {name!r}, expected one of {', '.join(known)}")
    return name
