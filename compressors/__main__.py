"""pareto-compress: builds the variants of a study, and shows and checks what a repository holds.

pareto-compress build --study digits --repository models
pareto-compress build --model resnet20:resnet20 --weights resnet20.th --data photos --name mine
pareto-compress build --onnx mine.onnx --data photos.npz --name mine
pareto-compress shrink --model resnet20:resnet20 --weights resnet20.th --data photos --name mine --budget 30m
pareto-compress list
pareto-compress plot --out plots
pareto-compress verify
pareto-compress remeasure && pareto-compress list --host
pareto-compress promote digits int8-openvino
pareto-compress push s3://bucket/models

All read or write the repository `models` unless `--repository` names another.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from compressors.settings import (
    BuildOptions,
    ListOptions,
    PlotOptions,
    PushOptions,
    RepositoryOptions,
    ShrinkOptions,
    UserModel,
)
from protos import repository
from protos.errors import ParetoServeError, UsageError
from protos.repository import GOLDEN, MANIFEST, Entry
from protos.support import machine, options, program
from protos.support.terminal import Screen

if TYPE_CHECKING:
    from compressors.build.pipeline import Build

LOADING = "loading PyTorch"
"""What the first seconds are spent on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    with program.quiet_end():
        return _main(_parser().parse_args(arguments))


def _main(arguments: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.ERROR, format="%(name)s: %(message)s", stream=sys.stderr)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # its warnings are for its own developers
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin are ruinous beside other work
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        return int(arguments.run(arguments))
    except (ParetoServeError, FileNotFoundError) as error:
        print(f"pareto-compress: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; what is finished is kept, start again to go on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pareto-compress", description="Build and inspect variants of a model.")
    program.add_version(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        run: Callable[[argparse.Namespace], int], text: str, kind: type[options.Dataclass] = RepositoryOptions
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(run.__name__.removeprefix("_"), help=text)
        made.set_defaults(run=run)
        options.add_flags(made, kind)
        return made

    build = command(_build, "build the variants of a study or of your own model", BuildOptions)
    options.add_flags(build.add_argument_group("your own model (docs/own-models.md)"), UserModel)
    command(_shrink, "find a much smaller student for your own classifier (docs/own-models.md)", ShrinkOptions)
    command(_list, "the table of a repository, and the frontier of accuracy and latency", ListOptions)
    command(_plot, "a page of plots for each model of a repository", PlotOptions)
    command(_remeasure, "measure accuracy and latency on this host; the manifests stay as they are")
    command(_verify, "check every variant's hashes and its answers on the golden inputs")
    promote = command(_promote, "make a variant the one that a request without a version gets")
    promote.add_argument("model")
    promote.add_argument("variant")
    push = command(_push, "send a repository to where servers fetch it (docs/scale.md)", PushOptions)
    push.add_argument("url", metavar="URL", help="where to: s3://, gs://, hf:// or oci://, an extra each")
    return parser


def _entries(root: Path) -> list[Entry]:
    """Returns what a repository holds; raises `UsageError` where the folder is none."""
    built = any((*root.glob(f"*/{GOLDEN}"), *root.glob(f"*/*/{MANIFEST}")))
    if entries := repository.scan(root) if built else []:
        return entries
    expected = f"a folder with MODEL/VARIANT/{MANIFEST}, as `pareto-compress build` writes it"
    raise UsageError(f"--repository: got '{root}', expected {expected}")


def _build(arguments: argparse.Namespace) -> int:
    with program.doing(LOADING):
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
    print(table.show(entries))
    _tell_failures(builds)
    return 1 if any(build.failures for build in builds) else 0


def _tell_failures(builds: "Sequence[Build]") -> None:
    for build in builds:
        for name, cause in build.failures.items():
            print(f"FAILED {build.study.model}/{name}: {cause} (all of it: {build.log(name)})", file=sys.stderr)


def _shrink(arguments: argparse.Namespace) -> int:
    with program.doing(LOADING):
        from compressors import from_flags
        from compressors.build.pipeline import read_data
        from compressors.report import table
        from compressors.shrink.search import COLUMNS, Search

    asked, own, path = from_flags.shrunk(arguments)
    search = Search(asked, own, read_data(own, path))
    verdict = search.run()
    _tell_failures(search.builds[-1:])  # the last one has all variants
    print(table.show(repository.scan_model(asked.repository, own.model), names=COLUMNS))
    print(f"\n{verdict.text}")
    return 0 if verdict.found else 1


def _list(arguments: argparse.Namespace) -> int:
    chosen = options.read(ListOptions, arguments)
    entries = _entries(chosen.repository)
    with program.doing(LOADING):
        from compressors.report import table

    shown = _on_this_host(entries) if chosen.host else entries
    print(table.as_json(shown) if chosen.json else table.show(shown, chosen.format, chosen.wide, chosen.columns))
    return 0


def _on_this_host(entries: list[Entry]) -> list[Entry]:
    """Returns the entries with the figures that were measured on this host."""
    from compressors.measure import remeasure

    here = machine.describe()
    hosts = {e.folder.parent: remeasure.load(e.folder.parent, here) for e in entries}
    return [replace(e, variant=e.variant and remeasure.seen_on(hosts[e.folder.parent], e.variant)) for e in entries]


def _remeasure(arguments: argparse.Namespace) -> int:
    root = options.read(RepositoryOptions, arguments).repository
    entries = _entries(root)
    with program.doing(LOADING):
        from compressors.measure import remeasure
        from compressors.report import table

    for model in sorted({entry.model for entry in entries}):
        variants = [entry for entry in entries if entry.model == model and entry.variant]
        host = remeasure.remeasure(root, model, variants)
        print(table.show(_on_this_host(variants)))
        changed = remeasure.changes([e.variant for e in variants if e.variant], host)
        print("", *changed or ["Nothing is otherwise than where it was built."], sep="\n")
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    chosen = options.read(PlotOptions, arguments)
    entries = _entries(chosen.repository)
    with program.doing(LOADING):
        from compressors.report import plots

    for page in plots.write(entries, chosen.out, chosen.speedups):
        print(f"Report: {page}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    failures, root = 0, options.read(RepositoryOptions, arguments).repository
    entries = _entries(root)
    from compressors.progress import first_line
    from server import runtimes
    from server.runtimes.golden import check_golden

    for entry in entries:
        said = f"ok      {entry.model}/{entry.name}"
        try:
            variant = repository.verify(entry)
            with closing(runtimes.load(entry.folder, variant, threads=1)) as adapter:
                check_golden(adapter, variant, repository.load_golden(root, entry.model, variant))
        except Exception as error:  # a damaged artifact fails in its library's own way
            failures += 1
            said = f"BROKEN  {entry.model}/{entry.name}: {first_line(error)}"
        print(said, flush=True)
    return 1 if failures else 0


def _promote(arguments: argparse.Namespace) -> int:
    root = options.read(RepositoryOptions, arguments).repository
    _entries(root)
    repository.promote(root, arguments.model, arguments.variant)
    return 0


def _push(arguments: argparse.Namespace) -> int:
    chosen = options.read(PushOptions, arguments)
    _entries(chosen.repository)
    from compressors.build import push

    rows = push.push(chosen.repository, arguments.url, chosen.models, chosen.delete)
    Screen().print(push.table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
