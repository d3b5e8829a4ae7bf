"""pareto-compress: builds the variants of a study, and shows and checks what a repository holds.

pareto-compress build --study digits --repository models
pareto-compress build --model resnet20:resnet20 --weights resnet20.th --data photos --name mine
pareto-compress build --onnx mine.onnx --data photos.npz --name mine
pareto-compress list models
pareto-compress plot models --out plots
pareto-compress verify models
pareto-compress remeasure models && pareto-compress list models --host
pareto-compress promote digits int8-openvino --repository models
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from compressors.settings import BuildOptions, ListOptions, PlotOptions, PromoteOptions, UserModel
from protos import repository
from protos.errors import ParetoServeError
from protos.repository import Entry
from protos.support import machine, options


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    arguments = _parser().parse_args()
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s", stream=sys.stderr)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings are for its own developers
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin are ruinous beside other work
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        sys.exit(arguments.run(arguments))
    except (ParetoServeError, FileNotFoundError) as error:
        print(f"pareto-compress: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept, start again to go on", file=sys.stderr)
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pareto-compress", description="Build and inspect variants of a model.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], int], text: str, *positional: str) -> argparse.ArgumentParser:
        made = commands.add_parser(run.__name__.removeprefix("_"), help=text)
        made.set_defaults(run=run)
        for argument in positional:
            made.add_argument(argument, type=Path if argument == "repository" else str)
        return made

    build = command(_build, "build the variants of a study or of your own model")
    options.add_flags(build, BuildOptions)
    options.add_flags(build.add_argument_group("your own model (docs/own-models.md)"), UserModel)
    listing = command(_list, "the table of a repository, with ratios to FP32 PyTorch", "repository")
    options.add_flags(listing, ListOptions)
    options.add_flags(command(_plot, "a page of plots for each model of a repository", "repository"), PlotOptions)
    command(_remeasure, "measure accuracy and latency on this host; the manifests stay as they are", "repository")
    command(_verify, "check every variant's hashes and its answers on the golden inputs", "repository")
    promote = command(_promote, "make a variant the one that a request without a version gets", "model", "variant")
    options.add_flags(promote, PromoteOptions)
    return parser


def _build(arguments: argparse.Namespace) -> int:
    from compressors import from_flags
    from compressors.build import teachers
    from compressors.build.pipeline import Build, read_data
    from compressors.report import table

    studies, data = from_flags.studies(arguments)
    folder = options.read(BuildOptions, arguments).repository
    teachers.check(studies, folder)
    dataset = read_data(studies[0], data)  # the models of a study share it
    budget = options.read(BuildOptions, arguments).budget
    builds = [Build(each, folder, dataset, budget=budget and budget / len(studies)) for each in studies]
    for build in builds:
        build.check()
    for build in builds:
        build.run()
    entries = [e for e in repository.scan(folder) if e.model in {each.model for each in studies}]
    print(table.show(entries, "table"))
    for build in builds:
        for name, cause in build.failures.items():
            print(f"FAILED {build.study.model}/{name}: {cause} (all of it: {build.log(name)})", file=sys.stderr)
    return 1 if any(build.failures for build in builds) else 0


def _list(arguments: argparse.Namespace) -> int:
    from compressors.report import table

    chosen, entries = options.read(ListOptions, arguments), repository.scan(arguments.repository)
    print(table.show(_on_this_host(entries) if chosen.host else entries, chosen.format))
    return 0


def _on_this_host(entries: list[Entry]) -> list[Entry]:
    """Returns the entries with the figures that were measured on this host."""
    from compressors.measure import remeasure

    here = machine.describe()
    hosts = {e.folder.parent: remeasure.load(e.folder.parent, here) for e in entries}
    return [replace(e, variant=e.variant and remeasure.seen_on(hosts[e.folder.parent], e.variant)) for e in entries]


def _remeasure(arguments: argparse.Namespace) -> int:
    from compressors.measure import remeasure
    from compressors.report import table

    entries = repository.scan(arguments.repository)
    for model in sorted({entry.model for entry in entries}):
        variants = [entry for entry in entries if entry.model == model and entry.variant]
        host = remeasure.remeasure(arguments.repository, model, variants)
        print(table.show(_on_this_host(variants), "table"))
        changed = remeasure.changes([e.variant for e in variants if e.variant], host)
        print("", *changed or ["Nothing is otherwise than where it was built."], sep="\n")
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    from compressors.report import plots

    for page in plots.write(repository.scan(arguments.repository), options.read(PlotOptions, arguments).out):
        print(page)
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from compressors.progress import first_line
    from server import runtimes
    from server.runtimes.golden import check_golden

    failures = 0
    for entry in repository.scan(arguments.repository):
        try:
            variant = repository.verify(entry)
            with closing(runtimes.load(entry.folder, variant, threads=1)) as adapter:
                check_golden(adapter, variant, repository.load_golden(arguments.repository, entry.model))
            print(f"ok      {entry.model}/{entry.name}")
        except Exception as error:  # a damaged artifact fails in its library's own way
            failures += 1
            print(f"BROKEN  {entry.model}/{entry.name}: {first_line(error)}")
    return 1 if failures else 0


def _promote(arguments: argparse.Namespace) -> int:
    repository.promote(options.read(PromoteOptions, arguments).repository, arguments.model, arguments.variant)
    return 0


if __name__ == "__main__":
    main()
