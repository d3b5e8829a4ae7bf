"""A study: the TOML file that declares a comparison, checked whole before any work starts.

models = { digits = "resnet18" }      # names in the repository, each with a key of zoo.NETWORKS, "plain:" and a line of
                                     # channels (networks.plain), or a user's own, "package.module:factory"
data = "digits"                      # a key of datasets.DATASETS, or the form of a user's own (datasets.USERS)
calibration = 128                    # training images kept for int8 ranges
seed = 0
runtimes = ["pytorch", "onnxruntime"]
input = { mean = [0.5, 0.5, 0.5] }   # fields of datasets.Form, where the data set's own is not right
decoding = { decoder = "ultralytics" } # of detectors that are none of ours: fields of manifest.Decoding

[recipes.fp32]                       # a name; every study has this one, the reference
step = "train"                       # or "load"; a key of recipes.STEPS; its other keys are the step's fields
fit = { epochs = 12, batch = 64, learning_rate = 0.05 }

[recipes.int8]
step = "static-int8"
parent = "fp32"                      # the recipe whose network it starts from
models = ["digits"]                  # not for all models of the study
runtimes = ["onnxruntime"]           # not for all runtimes of the study; [] where it is only a step on others' way

[published.digits]                   # measured by others, shown beside the measured ones of that model's variants
int8-onnxruntime = "1.51 ms, 11.3 MB"
"""

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from compressors.data.datasets import DATASETS, OWN_FORM, Form
from compressors.export.exporters import refusal
from compressors.export.lowerings import Lowering
from compressors.networks import onnx_graph, onnx_network, plain
from compressors.networks.zoo import DECODINGS, NETWORKS
from compressors.recipes.recipes import STEPS, Recipe, Step
from compressors.recipes.steps import FIRST_STEPS, FoldInput, LoadFile, Student
from protos.errors import UsageError
from protos.manifest import Decoding, Json, RuntimeName
from protos.repository import check_name
from protos.support.strict import decode
from protos.tasks.decoders import DECODERS

STUDIES = Path(__file__).parent / "studies"
REFERENCE, GIVEN_INT8 = "fp32", "int8"
"""What the recipe is called that everything is compared with: of an ONNX graph that is int8 already, not FP32."""


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
    decoding: Decoding | None = None
    published: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Header:
    """The keys of a recipe that are no fields of its step."""

    step: Json = None
    parent: Json = None
    models: tuple[str, ...] | None = None
    runtimes: tuple[RuntimeName, ...] | None = None


_Declared = Mapping[str, tuple[_Header, Step]]
"""By the recipe's name; each step is decoded once for all models: `load` hashes its file when it is made."""


@dataclass(frozen=True)
class Study:
    """What is to be built of one model; `recipes` are in an order in which each parent comes before its children."""

    model: str
    network_name: str
    data: str
    calibration: int | None
    """None is as many as there are, up to a usual number."""
    runtimes: tuple[RuntimeName, ...]
    recipes: tuple[Recipe, ...]
    seed: int
    sha256: str
    form: Form = OWN_FORM
    decoding: Decoding | None = None
    """How outputs become boxes, where the network is none of ours."""
    published: Mapping[str, str] = field(default_factory=dict)
    """What a source reports of a variant, in its own words, by the variant's name."""

    @property
    def reference(self) -> Recipe:
        """The recipe whose network everything is compared with."""
        named = {recipe.name: recipe for recipe in self.recipes}
        return named[REFERENCE] if REFERENCE in named else named[GIVEN_INT8]


def load(name: str) -> tuple[Study, ...]:
    """Reads the study of that name among those of the package, or in the file of that path, model by model.

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
    name: str,
    network: str,
    file: str,
    data: str,
    form: Form,
    calibration: int | None,
    runtimes: tuple[RuntimeName, ...],
    max_drop: float | None = None,
    decoding: Decoding | None = None,
) -> Study:
    """Makes the study of a user's own model, `file` loaded into `network`; raises `UsageError` as `load` does.

    With `max_drop`, accuracy-aware int8 that loses no more points is a recipe too.
    """
    recipes: dict[str, dict[str, Json]] = {
        REFERENCE: {"step": "load", "file": file},
        "int8": {"step": "static-int8", "parent": REFERENCE},
    }
    if max_drop is not None:
        recipes["int8-aware"] = {"step": "accuracy-aware-int8", "parent": REFERENCE, "max_drop": max_drop}
    if network == onnx_network.NAME and onnx_graph.is_int8_file(Path(file)):
        recipes = {GIVEN_INT8: recipes[REFERENCE]}
    sha256 = hashlib.sha256(repr((network, data, form, calibration, decoding)).encode()).hexdigest()
    try:
        file_of_one = _File({name: network}, data, calibration or 0, runtimes, recipes, input=form, decoding=decoding)
        (study,) = _check(file_of_one, sha256)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return replace(study, calibration=calibration)


def _check(file: _File, sha256: str) -> tuple[Study, ...]:
    _one_of("study.data", file.data, DATASETS)
    if not file.models:
        raise ValueError("study.models: got none, expected at least one")
    if file.decoding is not None:
        _one_of("study.decoding.decoder", file.decoding.decoder, DECODERS)
    for model, network in file.models.items():
        _network(f"study.models.{check_name(model)}", network, NETWORKS)
    _runtimes("study.runtimes", file.runtimes)
    for model in file.published:
        _one_of("study.published", model, file.models)
    declared = {name: _declared(name, table, file) for name, table in file.recipes.items()}
    return tuple(_study(model, file, declared, sha256) for model in file.models)


def _declared(name: str, table: dict[str, Json], file: _File) -> tuple[_Header, Step]:
    where = f"recipes.{check_name(name)}"
    header = decode(_Header, {key: table[key] for key in vars(_Header()) if key in table}, where)
    for model in header.models or ():
        _one_of(f"{where}.models", model, file.models)
    if header.runtimes:
        _runtimes(f"{where}.runtimes", header.runtimes)
    kind = _one_of(f"{where}.step", header.step, STEPS)
    step = decode(STEPS[kind], {key: value for key, value in table.items() if key not in vars(header)}, where)
    if isinstance(step, Student):
        trainable = {name: make for name, make in NETWORKS.items() if name != onnx_network.NAME}
        _network(f"{where}.network", step.network, trainable)
    for runtime in header.runtimes or ():
        if isinstance(step, Lowering) and (reason := refusal(step, runtime)):
            raise ValueError(f"{where}.runtimes: {runtime} cannot take '{kind}': {reason}")
    return replace(header, runtimes=file.runtimes if header.runtimes is None else header.runtimes), step


def _study(model: str, file: _File, declared: _Declared, sha256: str) -> Study:
    network, published = file.models[model], file.published.get(model, {})
    mine = {name: (h, step) for name, (h, step) in declared.items() if h.models is None or model in h.models}
    built: dict[str, Recipe] = {}
    for name in mine:
        _resolve(name, mine, built)
    wanted = _graph_reference(mine) if network == onnx_network.NAME else REFERENCE
    reference = built.get(wanted)
    if reference is None or not isinstance(reference.step, FIRST_STEPS):
        raise ValueError(f'recipes.{wanted}: every model needs it, with step = "train" or "load", as the reference')
    parents = [recipe.parent for recipe in built.values() if recipe.parent]
    for recipe in built.values():
        if not recipe.runtimes and (recipe is reference or recipe not in parents):
            why = "everything is compared with it" if recipe is reference else "no other recipe starts from it"
            raise ValueError(f"recipes.{recipe.name}.runtimes: got [], expected at least one: {why}")
    variants = {f"{recipe.name}-{runtime}": None for recipe in built.values() for runtime in recipe.runtimes}
    for variant in published:
        _one_of(f"study.published.{model}", variant, variants)
    recipes = tuple(built.values())
    decoding = file.decoding or DECODINGS.get(network)
    return Study(
        model=model,
        network_name=network,
        data=file.data,
        calibration=file.calibration,
        runtimes=file.runtimes,
        recipes=recipes,
        seed=file.seed,
        sha256=sha256,
        form=file.input,
        decoding=decoding,
        published=published,
    )


def _graph_reference(declared: _Declared) -> str:
    """Returns the name of an ONNX graph's reference; raises `ValueError` for what cannot be done to such a graph."""
    given_int8 = [n for n, (_, s) in declared.items() if isinstance(s, LoadFile) and onnx_graph.is_int8_file(s.path)]
    for name, (header, step) in declared.items():
        if not isinstance(step, Lowering | LoadFile):
            raise ValueError(f"recipes.{name}: step '{header.step}' needs a PyTorch network, an ONNX graph is none")
        if given_int8 and name != GIVEN_INT8:
            raise ValueError(f"recipes.{name}: the graph is int8 already, expected '{GIVEN_INT8}', its loading, alone")
    return GIVEN_INT8 if given_int8 else REFERENCE


def _resolve(name: str, declared: _Declared, built: dict[str, Recipe], children: tuple[str, ...] = ()) -> Recipe:
    """Returns the recipe `name`; adds its parents and then the recipe itself to `built`."""
    if name in built:
        return built[name]
    where, (header, step), parent = f"recipes.{name}", declared[name], None
    if name in children:
        raise ValueError(f"{where}: it is its own parent, by {' -> '.join((*children, name))}")
    if header.parent is not None:
        parent_name = _one_of(f"{where}.parent", header.parent, declared)
        parent = _resolve(parent_name, declared, built, (*children, name))
        if isinstance(parent.step, Lowering):
            kind = declared[parent_name][0].step
            raise ValueError(f"{where}.parent: '{parent_name}' ends with '{kind}', and nothing can follow that")
    if parent is not None and isinstance(parent.step, FoldInput) and not isinstance(step, Lowering):
        raise ValueError(f"{where}.parent: '{parent.name}' takes pixels, and only a lowering can follow 'fold-input'")
    if isinstance(step, Student):
        taught = step.fit.distillation
        if parent is None and taught:
            raise ValueError(f"{where}: got fit.distillation {taught} without a parent, expected one, the teacher")
        if parent is not None and not taught:
            raise ValueError(f"{where}: got the parent '{parent.name}', expected fit.distillation above 0 with one")
    elif (parent is None) != isinstance(step, FIRST_STEPS):
        raise ValueError(f"{where}: step '{header.step}' {'needs a' if parent is None else 'takes no'} parent")
    built[name] = Recipe(name, step, parent, header.runtimes or ())
    return built[name]


def _network(where: str, name: str, known: Mapping[str, object]) -> None:
    if plain.is_plain(name):
        try:
            plain.line(name)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    elif ":" not in name:
        _one_of(where, name, known)


def _runtimes(where: str, runtimes: tuple[RuntimeName, ...]) -> None:
    if not runtimes or len(set(runtimes)) != len(runtimes):
        raise ValueError(f"{where}: got {list(runtimes)}, expected at least one, none twice")


def _one_of(where: str, name: object, known: Mapping[str, object]) -> str:
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"{where}: got {name!r}, expected one of {', '.join(known)}")
    return name
