"""A CPU with AVX2 and without AVX512 and VNNI: QEMU hides them from every library, and computes as such a CPU does."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.support.serving import ROOT


def without_avx512() -> list[str]:
    """What stands before a command that is to run on such a CPU."""
    emulator = shutil.which("qemu-x86_64")
    assert emulator, "qemu-x86_64 is missing: apt-get install qemu-user"
    return [emulator, "-cpu", "max"]


@contextmanager
def answering(command: Sequence[str]) -> Iterator["subprocess.Popen[str]"]:
    """A process that does what each line on its input says; it ends with the block."""
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


def ask(process: "subprocess.Popen[str]", line: str) -> None:
    """Has the process do what the line says, and waits until it says that it is done."""
    assert process.stdin is not None
    assert process.stdout is not None
    print(line, file=process.stdin, flush=True)
    assert process.stdout.readline() == "done\n"
