"""pareto-compress: builds the variants of a study, and shows and checks what a repository holds.

pareto-compress build --study digits --repository models
pareto-compress build --model resnet20:resnet20 --weights resnet20.th --data photos --name mine
pareto-compress build --onnx mine.onnx --data photos.npz --name mine
pareto-compress list models
pareto-compress plot models --out plots
pareto-compress verify models
pareto-compress promote digits int8-openvino --repository models
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, get_args

from protos import repository
from protos.errors import ParetoServeError
from protos.manifest import RuntimeName
from server.runtimes.golden import check_golden

T = TypeVar("T")


def main() -> None:
    """The console script."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s", stream=sys.stderr)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings are for its own developers
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin are ruinous beside other work
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        sys.exit(arguments.run(arguments))
    except (ParetoServeError, FileNotFoundError) as error:
        sys.exit(_complain(error))
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept, start again to go on", file=sys.stderr)
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pareto-compress", description="Build and inspect variants of a model.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_build(commands.add_parser("build", help="build the variants of a study or of your own model"))
    listing = commands.add_parser("list", help="the table of a repository, with ratios to FP32 PyTorch")
    listing.add_argument("repository", type=Path)
    listing.add_argument("--format", choices=["table", "markdown", "csv", "json"], default="table")
    listing.set_defaults(run=_list)
    plot = commands.add_parser("plot", help="a page of figures for each model of a repository")
    plot.add_argument("repository", type=Path)
    plot.add_argument("--out", type=Path, default=Path("plots"), help="folder to write to; default: %(default)s")
    plot.set_defaults(run=_plot)
    verify = commands.add_parser("verify", help="check every variant's hashes and its answers on the golden inputs")
    verify.add_argument("repository", type=Path)
    verify.set_defaults(run=_verify)
    promote = commands.add_parser("promote", help="make a variant the one that a request without a version gets")
    promote.add_argument("model")
    promote.add_argument("variant")
    promote.add_argument("--repository", type=Path, default=Path("models"), help="default: %(default)s")
    promote.set_defaults(run=_promote)
    return parser


def _add_build(build: argparse.ArgumentParser) -> None:
    what = build.add_mutually_exclusive_group(required=True)
    what.add_argument("--study", help="a name in compressors/studies, or the path of a .toml file")
    what.add_argument("--model", metavar="MODULE:FACTORY", help="your own PyTorch network: FP32 and int8 of it")
    what.add_argument("--onnx", metavar="FILE", help="your own ONNX graph: FP32 and int8 of it")
    build.add_argument("--repository", type=Path, default=Path("models"), help="default: %(default)s")
    build.add_argument("--data", help="a folder with train/CLASS/ and test/CLASS/, an .npz, or MODULE:FUNCTION")
    own = build.add_argument_group("your own model (docs/own-models.md)")
    own.add_argument("--weights", metavar="FILE", help="the state dict of --model")
    own.add_argument("--name", help="what it is called in the repository")
    own.add_argument(
        "--input-shape", type=_three(int), metavar="3,H,W", help="default: as the graph or the data have it"
    )
    own.add_argument("--mean", type=_three(float), metavar="R,G,B", help="of pixels from 0 to 1; default: 0,0,0")
    own.add_argument("--std", type=_three(float), metavar="R,G,B", help="of pixels from 0 to 1; default: 1,1,1")
    own.add_argument("--calibration", type=int, metavar="N", help="training images for int8 ranges; default: 256")
    own.add_argument("--runtimes", nargs="+", choices=get_args(RuntimeName), help="default: all that can take it")
    build.set_defaults(run=_build)


def _three(kind: Callable[[str], T]) -> Callable[[str], tuple[T, T, T]]:
    def three_numbers(text: str) -> tuple[T, T, T]:  # argparse names it where it fails
        first, second, third = map(kind, text.split(","))
        return first, second, third

    return three_numbers


def _build(arguments: argparse.Namespace) -> int:
    from compressors import from_flags
    from compressors.build import teachers
    from compressors.build.pipeline import Build, read_data
    from compressors.report import table

    studies, data = from_flags.studies(arguments)
    teachers.check(studies, arguments.repository)
    dataset = read_data(studies[0], data)  # the models of a study share it
    builds = [Build(each, arguments.repository, dataset) for each in studies]
    for build in builds:
        build.check()
    for build in builds:
        build.run()
    entries = [e for e in repository.scan(arguments.repository) if e.model in {each.model for each in studies}]
    print(table.show(entries, "table"))
    failures = {f"{build.study.model}/{name}": cause for build in builds for name, cause in build.failures.items()}
    for name, cause in failures.items():
        print(f"FAILED {name}: {cause}", file=sys.stderr)
    return 1 if failures else 0


def _list(arguments: argparse.Namespace) -> int:
    from compressors.report import table

    print(table.show(repository.scan(arguments.repository), arguments.format))
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    from compressors.report import plots

    for page in plots.write(repository.scan(arguments.repository), arguments.out):
        print(page)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from server import runtimes

    failures = 0
    for entry in repository.scan(arguments.repository):
        try:
            variant = repository.verify(entry)
            adapter = runtimes.load(entry.folder, variant, threads=1)
            check_golden(adapter, variant, repository.load_golden(arguments.repository, entry.model))
            adapter.close()
            print(f"ok      {entry.model}/{entry.name}")
        except Exception as error:  # a damaged artifact fails in its library's own way
            failures += 1
            print(f"BROKEN  {entry.model}/{entry.name}: {str(error).strip()}")
    return 1 if failures else 0


def _promote(arguments: argparse.Namespace) -> int:
    repository.promote(arguments.repository, arguments.model, arguments.variant)
    return 0


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _complain(error: Exception) -> int:
    print(f"pareto-compress: {error}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
