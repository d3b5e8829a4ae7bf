"""The house as it is meant: imports point one way without a cycle, a heavy library stays where it is wrapped, a folder
can be taken in at once, tests mirror the tree, and every public function says what it does."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compressors.export.exporters import EXPORTERS
from server.runtimes import RUNTIMES

ROOT = Path(__file__).parent.parent
PACKAGES = ("protos", "server", "compressors", "loadtest")
MOST_FILES, MOST_LINES = 14, 18
"""Python files of one folder, and lines of nine functions in ten."""

MAY_IMPORT = {
    "protos": {"protos"},
    "server.runtimes": {"protos", "server.runtimes"},
    "server": {"protos", "server.runtimes", "server"},
    "compressors": {"protos", "server.runtimes", "compressors"},
    "loadtest": {"protos", "loadtest"},
}

ADAPTERS_AND_EXPORTERS = {
    name: {RUNTIMES[name].partition(":")[0], EXPORTERS[name].function.partition(":")[0]} for name in RUNTIMES
}

LOADTEST_TASKS = {f"loadtest.tasks.{name}" for name in ("task", "classification", "detection")}
ONNX_NETWORKS = {"compressors.networks.onnx_network", "compressors.networks.onnx_graph"}
WRAPPED_IN = {
    "torch": {"server.runtimes.pytorch", "server.runtimes.torchscript"},
    "onnxruntime": ADAPTERS_AND_EXPORTERS["onnxruntime"] | ONNX_NETWORKS,
    "openvino": ADAPTERS_AND_EXPORTERS["openvino"],
    "nncf": {"compressors.export.post_training"},
    "onnx": {"compressors.export.onnxruntime", "compressors.networks.scrfd_weights"} | ONNX_NETWORKS,
    "onnx_ir": {"compressors.networks.onnx_graph"},
    "cloudpickle": {"compressors.build.isolation"},
    "scipy": {
        "compressors.data.wider",
        "protos.support.significance",
        "loadtest.analysis.comparison",
        "loadtest.analysis.figure_intervals",
        "loadtest.analysis.percentiles",
        "loadtest.generator.opinion",
    },
    "fsspec": {"protos.stores.filesystem"},
    "huggingface_hub": {"protos.stores.hub"},
    "oras": {"protos.stores.oci"},
    "psutil": {"loadtest.measure.host"},
    "pycocotools": {"protos.tasks.coco"},
    "cv2": {"protos.tasks.nms"},
    "torchao": {"compressors.export.pytorch"},
    "torch_pruning": {"compressors.recipes.channel_pruning"},
    "torchvision": {"compressors.networks.torchvision"},
    "sklearn": {"compressors.recipes.clustering", "compressors.data.datasets", "compressors.data.scenes"},
    "PIL": {
        "compressors.data.scenes",
        "protos.images",
        "server.api.images",
        "server.bench.payloads",
        *LOADTEST_TASKS,
        "loadtest.client.payloads",
        "compressors.tasks.augmentation",
    },
    "opentelemetry": {"server.observability.tracing"},
    "pygrpc_native": {"server.api.native_front"},
    "plotly": {
        "loadtest.report.heatmap",
        "loadtest.report.plots",
        "loadtest.report.page",
        "loadtest.report.search_plot",
        "loadtest.report.timeline",
        "loadtest.report.history",
        "compressors.report.plots",
    },
}
"""Library to the modules that may import it. torch is also the language that the compressors are written in."""

OPTIONAL = {
    "protos.support.significance": {"scipy"},
    "protos.support.terminal": {"rich"},
    "protos.images": {"PIL"},
    "protos.stores.filesystem": {"fsspec"},
    "protos.stores.hub": {"huggingface_hub"},
    "protos.stores.oci": {"oras", "requests"},
    "protos.tasks.nms": {"cv2"},
    "protos.tasks.coco": {"pycocotools"},
}
"""What parts of the contract need beyond NumPy and protobuf, and import where it is needed."""


def modules() -> dict[str, Path]:
    found = {}
    for path in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        if not path.name.endswith(("_pb2.py", "_pb2_grpc.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
TREES = {module: ast.parse(path.read_text()) for module, path in MODULES.items()}


def imports(module: str) -> Iterator[str]:
    """Everything that a module imports anywhere in it, as full dotted names."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in MODULES else str(node.module) for name in names)


def area(module: str) -> str:
    return "server.runtimes" if module.startswith("server.runtimes") else module.split(".")[0]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    ours = {area(name) for name in imports(module) if name.split(".")[0] in PACKAGES}
    assert ours <= MAY_IMPORT[area(module)]


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("protos")])
def test_the_contract_needs_only_numpy_and_protobuf(module: str) -> None:
    others = {name.split(".")[0] for name in imports(module)} - {"protos", "numpy", "google"}
    others -= OPTIONAL.get(module, set())
    assert others <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("library", WRAPPED_IN)
def test_a_library_is_imported_where_it_is_wrapped(library: str) -> None:
    users = {module for module in MODULES for name in imports(module) if name.split(".")[0] == library}
    if library == "torch":
        users = {module for module in users if area(module) != "compressors"}
    assert users == WRAPPED_IN[library]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtime_has_one_name_for_adapter_exporter_and_extra(runtime: str) -> None:
    assert ADAPTERS_AND_EXPORTERS[runtime] == {f"server.runtimes.{runtime}", f"compressors.export.{runtime}"}
    assert f"\n{runtime} = [" in (ROOT / "pyproject.toml").read_text()


def test_there_is_no_import_cycle() -> None:
    graph = {module: {name for name in imports(module) if name in MODULES and name != module} for module in MODULES}
    while leaves := {module for module, needed in graph.items() if not needed}:
        graph = {module: needed - leaves for module, needed in graph.items() if module not in leaves}
    assert graph == {}


@pytest.mark.parametrize(
    ("program", "foreign"),
    [
        (
            "server.lifecycle",
            (
                *("torch", "onnxruntime", "openvino", "nncf", "locust", "opentelemetry", "pygrpc_native"),
                *("fsspec", "huggingface_hub", "oras", "compressors", "loadtest"),
            ),
        ),
        ("server.runtimes.onnxruntime", ("torch", "openvino")),
        ("loadtest.__main__", ("torch", "onnxruntime", "openvino", "server", "compressors")),
        ("compressors.__main__", ("locust", "grpc", "server.hosting.registry")),
    ],
)
def test_a_program_loads_no_library_that_it_does_not_need(program: str, foreign: tuple[str, ...]) -> None:
    script = f"import sys, {program}; print(*[m for m in {foreign} if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == []


@pytest.mark.parametrize("package", [m for m, path in MODULES.items() if path.name == "__init__.py"])
def test_a_package_itself_holds_only_a_docstring(package: str) -> None:
    body = TREES[package].body
    if package == "server.runtimes":  # it holds the table of runtimes, the one thing that all of them share
        assert any(isinstance(node, ast.Assign) and node.targets[0].id == "RUNTIMES" for node in body)  # type: ignore[attr-defined]
    elif package == "compressors":  # whatever of it is imported first, its libraries come after this
        assert [ast.unparse(node) for node in body[1:]] == [
            "from protos.support.makers import tell_nothing",
            "tell_nothing()",
        ]
    else:
        assert [type(node) for node in body] == [ast.Expr]


@pytest.mark.parametrize("top", [*PACKAGES, "tests"])
def test_a_folder_can_be_taken_in_at_a_glance(top: str) -> None:
    folders = {path.parent for path in (ROOT / top).rglob("*.py")}
    assert {str(f.relative_to(ROOT)) for f in folders if len([*f.glob("*.py")]) > MOST_FILES} == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_nine_functions_in_ten_fit_a_glance(package: str) -> None:
    trees = [tree for module, tree in TREES.items() if module.split(".")[0] == package]
    lines = sorted((node.end_lineno or 0) - node.lineno + 1 for tree in trees for node in functions(tree))
    assert lines[int(0.9 * len(lines))] <= MOST_LINES


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_says_what_it_does(module: str) -> None:
    """A docstring is understood without the line above it: it is no fragment such as "Of the student's labels"."""
    nested = {inner for node in functions(TREES[module]) for inner in functions(node) if inner is not node}
    public = [node for node in functions(TREES[module]) if not node.name.startswith("_") and node not in nested]
    texts = {node.name: ast.get_docstring(node) or "" for node in public}
    fragments = ("Of ", "That ", "By ", "Those ", "What those")
    assert [name for name, text in texts.items() if not text or text.startswith(fragments)] == []


def test_tests_mirror_the_tree() -> None:
    mirrored = [p for package in PACKAGES for p in (ROOT / "tests" / package).rglob("*") if [*p.glob("test_*.py")]]
    missing = {
        str(p.relative_to(ROOT / "tests")) for p in mirrored if not (ROOT / p.relative_to(ROOT / "tests")).is_dir()
    }
    # Whole programs under fire: no folder of the server is their subject.
    assert missing == {"server/faults", "server/stress"}


def test_no_test_file_is_imported() -> None:
    found = []
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found += [f"{path}: {name}" for name in names if name.startswith("tests.") and ".test_" in name]
    assert found == []
