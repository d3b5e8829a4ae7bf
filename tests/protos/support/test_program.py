"""What all three programs do alike: say their version, fit their help into 80 columns, end quietly in a pipe."""

import argparse
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import pytest

from compressors.__main__ import _parser as compress
from loadtest.__main__ import _parser as loadtest
from protos.manifest import SCHEMA
from protos.support import program
from server.settings import make_parser as serve
from tests.support.serving import ROOT

PROGRAMS = {"compressors": "pareto-compress", "loadtest": "pareto-loadtest", "server": "pareto-serve"}


def parsers() -> Iterator[argparse.ArgumentParser]:
    """The three programs' parsers, and those of their commands."""
    for parser in (compress(), loadtest(), serve()):
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from action.choices.values()


PARSERS = {parser.prog: parser for parser in parsers()}


@pytest.mark.parametrize(("module", "name"), PROGRAMS.items())
def test_a_program_says_its_version_and_what_it_speaks(module: str, name: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--version"], cwd=ROOT, capture_output=True, text=True)
    text = f"{name} {program.version()}, manifests of schema {SCHEMA}, Open Inference Protocol v2\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, text, "")


@pytest.mark.parametrize("module", PROGRAMS)
def test_a_program_whose_output_nobody_reads_ends_without_a_word(module: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        command = [sys.executable, "-m", module, "--help"]
        done = subprocess.run(command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True)
    assert done.stderr == ""
    assert done.returncode in (0, program.BROKEN_PIPE)  # where Python's output is unbuffered, argparse ignores it


def test_what_nobody_reads_ends_a_program_as_sigpipe_would() -> None:
    script = "from protos.support import program\nwith program.quiet_end(): print('x')"
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (program.BROKEN_PIPE, "")


def test_another_broken_pipe_is_no_quiet_end() -> None:
    with pytest.raises(BrokenPipeError), program.quiet_end():
        raise BrokenPipeError


@pytest.mark.parametrize("name", PARSERS)
def test_help_fits_80_columns(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert [line for line in PARSERS[name].format_help().splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("name", PARSERS)
def test_a_flag_that_takes_seconds_speaks_of_seconds(name: str) -> None:
    flags = {
        action.option_strings[-1]: str(action.help) for action in PARSERS[name]._actions if action.metavar == "SECONDS"
    }
    assert [flag for flag, text in flags.items() if "seconds" not in text.lower()] == []


def test_a_share_is_called_a_share() -> None:
    shares = {
        ("pareto-loadtest run", "--error-rate"),
        ("pareto-loadtest compare", "--tolerance"),
        ("pareto-compress build", "--iou-threshold"),
    }
    metavars = {
        (name, flag): action.metavar
        for name, made in PARSERS.items()
        for action in made._actions
        for flag in action.option_strings
    }
    assert {metavars[each] for each in shares} == {"SHARE"}


def test_what_is_done_stands_on_a_terminal_until_it_is_done() -> None:
    ours, theirs = pty.openpty()
    script = "from protos.support import program\nwith program.doing('connecting to x'): pass"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, stderr=theirs, check=True)
    os.close(theirs)
    with os.fdopen(ours, "rb", 0) as terminal:
        assert terminal.read(1000) == b"\rconnecting to x ...\r\x1b[K"


def test_what_is_done_is_not_said_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with program.doing("connecting to x"):
        pass
    assert capsys.readouterr() == ("", "")
