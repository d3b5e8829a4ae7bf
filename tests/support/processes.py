"""Programs that tests start; `tests/conftest.py` sees to it that they heed Ctrl-C."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.support.serving import ROOT, eventually


@contextmanager
def started(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process with pipes, waited for at the end, by force if need be."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def finished(command: Sequence[str], seconds: float = 120.0) -> "subprocess.CompletedProcess[str]":
    """The same process, run to its end."""
    with started(command) as process:
        stdout, stderr = process.communicate(timeout=seconds)
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def program(name: str, package: str) -> str:
    """The path of another project's program, beside this Python or on PATH; a test fails where there is none."""
    found = shutil.which(name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    if found is None:
        pytest.fail(f"{name} is missing: install {package}")
    return found


@contextmanager
def answering_at(url: str, command: Sequence[str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that runs in `folder`, from when `url` is answered with 200 on; killed at the end."""
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("w") as file, subprocess.Popen(command, cwd=folder, stdout=file, stderr=file) as process:
        try:
            asyncio.run(eventually(lambda: _answers(url) or process.poll() is not None))
            assert process.poll() is None, log.read_text()
            yield process
        finally:
            process.kill()  # nothing of it is kept


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1):
            return True
    except (URLError, OSError):
        return False


def python(script: str, *arguments: str) -> list[str]:
    """The command that runs a script."""
    return [sys.executable, "-c", script, *arguments]
