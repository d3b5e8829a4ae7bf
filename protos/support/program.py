"""What the command lines of all programs share: a version, what is done now, and a quiet end of `program | head`."""

import importlib.metadata
import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from select import POLLERR, poll

from protos.manifest import SCHEMA

NAME = "paretoserve"
"""What the distribution is called, and what the server calls itself."""
NATIVE_FRONT = "native_front"
"""The extension that a server lists where pygrpc-native takes ModelInfer from the port; not one of Triton's."""
BROKEN_PIPE = 141
"""The exit code that a shell shows of a process that SIGPIPE ended."""
ERASE = "\r\x1b[K"
"""What empties the line of a terminal."""


def version() -> str:
    """Returns the installed version; "unknown" where the programs run from a checkout that is not installed."""
    try:
        return importlib.metadata.version(NAME)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def add_version(parser: ArgumentParser) -> None:
    """Adds the flag `--version`."""
    text = f"%(prog)s {version()}, manifests of schema {SCHEMA}, Open Inference Protocol v2"
    parser.add_argument("--version", action="version", version=text, help="show what this is and end")


@contextmanager
def doing(text: str) -> Iterator[None]:
    """Shows what is done on the terminal of standard error as long as the `with` block runs; elsewhere nothing."""
    shown = sys.stderr.isatty()
    if shown:
        print(f"\r{text} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print(ERASE, end="", file=sys.stderr, flush=True)


@contextmanager
def quiet_end() -> Iterator[None]:
    """Ends the process with `BROKEN_PIPE` and no word where the reader of standard output is gone."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _unread():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes what is left at its end
        raise SystemExit(BROKEN_PIPE) from None


def _unread() -> bool:
    """Returns whether standard output is a pipe that nobody reads any more."""
    polled = poll()
    polled.register(sys.stdout.fileno(), 0)
    return any(event & POLLERR for _, event in polled.poll(0))
