"""The layout holds: imports point one way, without a cycle, and a heavy library is imported where it is wrapped."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("protos", "server", "compressors", "loadtest")

MAY_IMPORT = {
    "protos": {"protos"},
    "server.runtimes": {"protos", "server.runtimes"},
    "server": {"protos", "server.runtimes", "server"},
    "compressors": {"protos", "server.runtimes", "compressors"},
    "loadtest": {"protos", "loadtest"},
}

WRAPPED_IN = {
    "torch": {"server.runtimes.torch_call", "server.runtimes.pytorch", "server.runtimes.torchscript"},
    "onnxruntime": {
        "server.runtimes.onnxruntime",
        "compressors.export.onnxruntime",
        "compressors.networks.onnx_network",
    },
    "openvino": {"server.runtimes.openvino", "compressors.export.openvino"},
    "nncf": {"compressors.export.post_training"},
    "onnx": {"compressors.export.onnxruntime", "compressors.networks.onnx_network"},
    "onnx_ir": {"compressors.networks.onnx_network"},
    "cloudpickle": {"compressors.build.isolation"},
    "scipy": {
        "loadtest.users.arrivals",
        "loadtest.analysis.run_comparison",
        "loadtest.analysis.paired_comparison",
        "protos.support.significance",
    },
    "psutil": {"loadtest.measure.host"},
    "torchao": {"compressors.export.pytorch"},
    "torch_pruning": {"compressors.recipes.channel_pruning"},
    "torchvision": {"compressors.networks.torchvision"},
    "sklearn": {"compressors.recipes.clustering", "compressors.data.datasets"},
    "PIL": {"server.api.images", "compressors.data.user_data", "loadtest.report.flips", "loadtest.client.payloads"},
    "opentelemetry": {"server.observability.tracing"},
    "plotly": {
        "loadtest.report.plots",
        "loadtest.report.page",
        "loadtest.report.timeline",
        "compressors.report.plots",
    },
}
"""Library to the modules that may import it. torch is also the language that the compressors are written in."""


def modules() -> dict[str, Path]:
    found = {}
    for path in (file for package in PACKAGES for file in (ROOT / package).rglob("*.py")):
        if not path.name.endswith(("_pb2.py", "_pb2_grpc.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(module: str) -> Iterator[str]:
    """Everything that a module imports anywhere in it, as full dotted names."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in MODULES else str(node.module) for name in names)


def area(module: str) -> str:
    return "server.runtimes" if module.startswith("server.runtimes") else module.split(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    ours = {area(name) for name in imports(module) if name.split(".")[0] in PACKAGES}
    assert ours <= MAY_IMPORT[area(module)]


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("protos")])
def test_the_contract_needs_only_numpy_and_protobuf(module: str) -> None:
    others = {name.split(".")[0] for name in imports(module)} - {"protos", "numpy", "google"}
    others -= {"scipy"} if module == "protos.support.significance" else set()
    assert others <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("library", WRAPPED_IN)
def test_a_library_is_imported_where_it_is_wrapped(library: str) -> None:
    users = {module for module in MODULES for name in imports(module) if name.split(".")[0] == library}
    if library == "torch":
        users = {module for module in users if area(module) != "compressors"}
    assert users == WRAPPED_IN[library]


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
            ("torch", "onnxruntime", "openvino", "nncf", "locust", "opentelemetry", "compressors", "loadtest"),
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


@pytest.mark.parametrize("package", [*PACKAGES, "compressors.studies", "protos.v1"])
def test_a_package_itself_holds_only_a_docstring(package: str) -> None:
    body = ast.parse(ROOT.joinpath(*package.split("."), "__init__.py").read_text()).body
    assert [type(node) for node in body] == [ast.Expr]
