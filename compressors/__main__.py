"""pareto-compress: builds the variants of a study, and shows and checks what a repository holds.

pareto-compress build --study digits --repository models
pareto-compress list models
pareto-compress verify models
pareto-compress promote digits int8-openvino --repository models
"""

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from protos import repository
from protos.errors import ParetoServeError


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
    build = commands.add_parser("build", help="build the variants of a study, or what is missing of them")
    build.add_argument("--study", required=True, help="digits, resnet18-cifar10, or the path of a .toml file")
    build.add_argument("--repository", type=Path, default=Path("models"), help="default: %(default)s")
    build.add_argument("--data", type=Path, help="where the data set lies, for those that have files")
    build.set_defaults(run=_build)
    listing = commands.add_parser("list", help="the table of a repository, with ratios to FP32 PyTorch")
    listing.add_argument("repository", type=Path)
    listing.add_argument("--format", choices=["table", "markdown", "json"], default="table")
    listing.set_defaults(run=_list)
    verify = commands.add_parser("verify", help="check every variant's hashes and its answers on the golden inputs")
    verify.add_argument("repository", type=Path)
    verify.set_defaults(run=_verify)
    promote = commands.add_parser("promote", help="make a variant the one that a request without a version gets")
    promote.add_argument("model")
    promote.add_argument("variant")
    promote.add_argument("--repository", type=Path, default=Path("models"), help="default: %(default)s")
    promote.set_defaults(run=_promote)
    return parser


def _build(arguments: argparse.Namespace) -> int:
    from compressors import report, study, teachers
    from compressors.pipeline import Build, read_data

    studies = study.load(arguments.study)
    teachers.check(studies, arguments.repository)
    dataset = read_data(studies[0], arguments.data)  # the models of a study share it
    builds = [Build(each, arguments.repository, dataset) for each in studies]
    for build in builds:
        build.run()
    entries = [e for e in repository.scan(arguments.repository) if e.model in {each.model for each in studies}]
    print(report.show(entries, "table"))
    failures = {f"{build.study.model}/{name}": cause for build in builds for name, cause in build.failures.items()}
    for name, cause in failures.items():
        print(f"FAILED {name}: {cause}", file=sys.stderr)
    return 1 if failures else 0


def _list(arguments: argparse.Namespace) -> int:
    from compressors import report

    print(report.show(repository.scan(arguments.repository), arguments.format))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from server import runtimes

    failures = 0
    for entry in repository.scan(arguments.repository):
        try:
            variant = repository.verify(entry)
            adapter = runtimes.load(entry.folder, variant, threads=1)
            runtimes.check_golden(adapter, variant, repository.load_golden(arguments.repository, entry.model))
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
