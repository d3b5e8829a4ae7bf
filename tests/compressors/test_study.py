"""Studies: what cannot be carried out is one clear line, before any work starts."""

from pathlib import Path

import pytest

from compressors import study
from protos.errors import UsageError

GOOD = """
models = { m = "resnet18" }
data = "digits"
calibration = 8
runtimes = ["onnxruntime"]
[recipes.int8]
step = "static-int8"
parent = "fp32"
[recipes.fp32]
step = "train"
fit = { epochs = 1, batch = 2, learning_rate = 0.1 }
"""


def load(tmp_path: Path, text: str) -> tuple[study.Study, ...]:
    path = tmp_path / "s.toml"
    path.write_text(text)
    return study.load(str(path))


@pytest.mark.parametrize("name", ["digits", "resnet18-cifar10"])
def test_the_studies_of_the_package_declare_sixteen_variants(name: str) -> None:
    (declared,) = study.load(name)
    assert [recipe.name for recipe in declared.recipes] == ["fp32", "channels50", "int8", "channels50-int8"]
    assert declared.runtimes == ("pytorch", "torchscript", "onnxruntime", "openvino")


def test_the_scenes_are_a_detector_of_five_variants_under_the_name_of_the_study() -> None:
    (declared,) = study.load("scenes")
    assert (declared.model, declared.data) == ("scenes", "scenes")
    assert [len(recipe.runtimes) for recipe in declared.recipes] == [3, 2]


def test_the_small_families_are_taught_by_the_network_before_them() -> None:
    teacher, *families = study.load("small-cnns")
    assert [recipe.name for recipe in teacher.recipes] == ["fp32"]
    for declared in families:
        (distilled,) = (recipe for recipe in declared.recipes if recipe.name == "distilled")
        assert distilled.chain()[0].parameters["teacher"] == f"{teacher.model}/fp32-pytorch"
        assert [recipe.name for recipe in declared.recipes][-2:] == ["rounded8", "clusters32"]


def test_parents_come_before_their_children(tmp_path: Path) -> None:
    assert [recipe.name for recipe in load(tmp_path, GOOD)[0].recipes] == ["fp32", "int8"]


def test_a_chain_lists_every_step_with_all_parameters(tmp_path: Path) -> None:
    train, int8 = load(tmp_path, GOOD)[0].recipes[1].chain()
    assert (train.name, int8.name) == ("train", "static-int8")
    assert train.parameters["fit"] == {
        "epochs": 1, "batch": 2, "learning_rate": 0.1, "shift": 0, "flip": False, "distillation": 0.0,
        "weight_decay": 5e-4, "momentum": 0.9, "warm_up": 0.3, "smoothing": 0.0, "decay_biases": True,
        "compiled": False,
    }  # fmt: skip
    assert int8.parameters == {
        "granularity": "per-channel", "ranges": "default", "fuse": True, "range": "reduced", "float_layers": (),
        "bias_correction": False, "exclude": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('models = { m = "resnet18" }', "", "'models' is missing"),
        ('{ m = "resnet18" }', "{}", "study.models: got none"),
        ("{ m = ", '{ "../m" = ', "got '../m', expected letters"),
        ("calibration = 8", "calibration = '8'", "study.calibration: got '8', expected int"),
        ("calibration = 8", "calibration = 8\nspeed = 1", "unknown key 'speed'"),
        ('"resnet18"', '"resnet99"', "study.models.m: got 'resnet99', expected one of resnet18"),
        (
            '"digits"',
            '"mnist"',
            "study.data: got 'mnist', expected one of digits, cifar10, cifar100, folder, arrays, function",
        ),
        ("calibration = 8", "calibration = 8\ninput = { std = [1, 1, 0] }", "std: got .*, expected values above 0"),
        ('"train"', '"load"', "recipes.fp32: unknown key 'fit'"),
        ('["onnxruntime"]', '["tensorrt"]', r"study.runtimes\[0\]: got 'tensorrt'"),
        ('["onnxruntime"]', "[]", "expected at least one"),
        ('"static-int8"', '"int4"', "recipes.int8.step: got 'int4', expected one of train"),
        ('parent = "fp32"', 'parent = "fp16"', "recipes.int8.parent: got 'fp16'"),
        ('parent = "fp32"', "", "step 'static-int8' needs a parent"),
        ('parent = "fp32"', 'parent = "int8"', "its own parent, by int8 -> int8"),
        ('parent = "fp32"', 'parent = "fp32"\nratio = 1', "recipes.int8: unknown key 'ratio'"),
        ("epochs = 1,", "", "recipes.fp32.fit: 'epochs' is missing"),
        ("epochs = 1,", "epochs = 0,", "recipes.fp32.fit.epochs: got 0, expected at least 1"),
        (
            "learning_rate = 0.1",
            "learning_rate = 0.0",
            "recipes.fp32.fit.learning_rate: got 0.0, expected more than 0",
        ),
        ("rate = 0.1", "rate = 0.1, distillation = 1.5", "recipes.fp32.fit.distillation: got 1.5, expected 0 to 1"),
        (
            "rate = 0.1",
            "rate = 0.1, distillation = 0.5",
            "recipes.fp32.teacher: it and fit.distillation above 0, or review,",
        ),
        ("[recipes.fp32]", "[recipes.base]", "recipes.int8.parent: got 'fp32', expected one of int8, base"),
        ("calibration = 8", "calibration = ", "s.toml: "),
        ('parent = "fp32"', 'parent = "fp32"\nmodels = ["n"]', "recipes.int8.models: got 'n', expected one of m"),
        (
            'parent = "fp32"',
            'parent = "fp32"\nfuse = false\nruntimes = ["openvino"]',
            "recipes.int8.runtimes: openvino cannot take 'static-int8': OpenVINO folds batch normalization",
        ),
        (
            'parent = "fp32"',
            'parent = "fp32"\nranges = "kl"',
            "recipes.int8.ranges: got 'kl', expected one of",
        ),
        ('"static-int8"', '"accuracy-aware-int8"\nmax_drop = -1', "max_drop: got -1.0, expected more than 0"),
        ("[recipes.int8]", "[published.n]\n[recipes.int8]", "study.published: got 'n', expected one of m"),
        (
            "[recipes.int8]",
            "[published.m]\nint8-openvino = '1 ms'\n[recipes.int8]",
            "study.published.m: got 'int8-openvino', expected one of fp32-onnxruntime, int8-onnxruntime",
        ),
        ('parent = "fp32"', 'parent = "fp32"\nruntimes = []', r"recipes.int8.runtimes: got \[\].*: no other"),
        ('step = "train"', 'step = "train"\nruntimes = []', r"recipes.fp32.runtimes: got \[\].*: everything is"),
    ],
)
def test_what_cannot_be_carried_out_is_one_clear_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(UsageError, match=message) as error:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert "\n" not in str(error.value)


FIT = "fit = { epochs = 1, batch = 2, learning_rate = 0.1 }"


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (f'"channel-pruning"\nratio = 1.5\n{FIT}', "more.ratio: got 1.5, expected more than 0 and less than 1"),
        (f'"channel-pruning"\nratio = 0.5\nrounds = 0\n{FIT}', "more.rounds: got 0, expected at least 1"),
        ('"element-pruning"\nsparsity = 0', "more.sparsity: got 0.0, expected more than 0 and less than 1"),
        (
            '"element-pruning"\nsparsity = 0.5\nscope = "layer"',
            "more.scope: got 'layer', expected one of local",
        ),
        ('"element-pruning"\nsparsity = 0.5\nrounds = 2', "more.rounds: got 2 without a fit"),
        ('"clustering"\nclusters = 1', "more.clusters: got 1, expected at least 2"),
        ('"clustering"\nclusters = 2.5', "more.clusters: got 2.5, expected int"),
        ('"weight-rounding"\nbits = 4', "recipes.more: unknown key 'bits'"),
        (f'"fine-tune"\nteacher = "a/b"\n{FIT}', "more.teacher: got one, expected fit.distillation above 0"),
        ('"qat"', "recipes.more: 'fit' is missing"),
    ],
)
def test_a_value_that_a_step_cannot_take_is_named_with_recipe_and_key(tmp_path: Path, step: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        load(tmp_path, f'{GOOD}[recipes.more]\nparent = "fp32"\nstep = {step}\n')
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ('network = "plain:16/2,,32"', "recipes.more.network: got 'plain:16/2,,32', expected channels and strides"),
        ('network = "resnet99"', "recipes.more.network: got 'resnet99', expected one of resnet18"),
        ('network = "onnx"', "recipes.more.network: got 'onnx', expected one of resnet18"),
        ('network = "resnet18"\nbranches = true', "more.branches: got network 'resnet18', expected one of"),
        ('network = "plain:8"\ninput = { size = [8, 8] }', r"more.input: got size \[8, 8\], expected mean and std"),
        ('network = "plain:8"\nfit.distillation = 0.5', "recipes.more: got fit.distillation 0.5 without a parent"),
        ('network = "plain:8"\nparent = "fp32"', "recipes.more: got the parent 'fp32', expected fit.distillation"),
        ('network = "plain:8"\nfit.warm_up = 1', "more.fit.warm_up: got 1.0, expected more than 0 and less than 1"),
        ('network = "plain:8"\nfit.smoothing = 1', "more.fit.smoothing: got 1.0, expected 0 to less than 1"),
    ],
)
def test_a_student_that_cannot_be_is_named_with_recipe_and_key(tmp_path: Path, keys: str, message: str) -> None:
    fit = "fit.epochs = 1\nfit.batch = 2\nfit.learning_rate = 0.1"
    with pytest.raises(UsageError, match=message) as error:
        load(tmp_path, f'{GOOD}[recipes.more]\nstep = "student"\n{fit}\n{keys}\n')
    assert "\n" not in str(error.value)


def test_a_chain_is_about_its_student_s_network(tmp_path: Path) -> None:
    fit = "fit = { epochs = 1, batch = 2, learning_rate = 0.1, distillation = 0.5 }"
    student = f'[recipes.s]\nstep = "student"\nparent = "fp32"\nnetwork = "plain:8"\n{fit}\n'
    (declared,) = load(tmp_path, GOOD + student + '[recipes.s8]\nstep = "static-int8"\nparent = "s"\n')
    named = {recipe.name: recipe.network_name(declared.network_name) for recipe in declared.recipes}
    assert named == {"fp32": "resnet18", "int8": "resnet18", "s": "plain:8", "s8": "plain:8"}


def test_nothing_follows_int8(tmp_path: Path) -> None:
    chained = GOOD + '[recipes.again]\nstep = "static-int8"\nparent = "int8"\n'
    with pytest.raises(UsageError, match="'int8' ends with 'static-int8', and nothing can follow that"):
        load(tmp_path, chained)


def test_an_unknown_study_names_those_that_are_there() -> None:
    with pytest.raises(UsageError, match="got study 'mnist', expected one of digits, engines, hundred, resnet18"):
        study.load("mnist")


def test_a_recipe_on_the_way_to_others_needs_no_runtimes(tmp_path: Path) -> None:
    tuned = '[recipes.tuned]\nstep = "fine-tune"\nparent = "fp32"\nruntimes = []\n' + GOOD.splitlines()[-1]
    recipes = load(tmp_path, GOOD.replace('parent = "fp32"', 'parent = "tuned"') + tuned)[0].recipes
    built_for = {recipe.name: recipe.runtimes for recipe in recipes}
    assert built_for == {"fp32": ("onnxruntime",), "tuned": (), "int8": ("onnxruntime",)}


def test_each_model_gets_the_recipes_and_runtimes_that_are_for_it(tmp_path: Path) -> None:
    text = GOOD.replace('m = "resnet18"', 'm = "resnet18", n = "resnet18"').replace(
        '["onnxruntime"]', '["onnxruntime", "openvino"]'
    )
    m, n = load(tmp_path, text.replace('parent = "fp32"', 'parent = "fp32"\nmodels = ["n"]\nruntimes = ["openvino"]'))
    assert [(recipe.name, recipe.runtimes) for recipe in m.recipes] == [("fp32", ("onnxruntime", "openvino"))]
    assert [(recipe.name, recipe.runtimes) for recipe in n.recipes][1:] == [("int8", ("openvino",))]
