"""A compiled package asks for no executable stack, which glibc 2.41 and later refuses to a library."""

import subprocess
from pathlib import Path

from compressors.export.pytorch import _without_executable_stack


def stack_flags(library: Path) -> str:
    """What binutils says of the stack that a library asks for."""
    table = subprocess.run(["readelf", "-lW", library], capture_output=True, text=True, check=True).stdout
    (line,) = (line.split() for line in table.splitlines() if "GNU_STACK" in line)
    return "".join(part for part in line[6:-1])


def test_a_library_whose_assembly_says_nothing_of_its_stack_asks_for_a_plain_one(tmp_path: Path) -> None:
    source, library = tmp_path / "weights.s", tmp_path / "weights.so"
    source.write_text("\t.section\t.lrodata\n\t.globl\tweights\nweights:\n\t.byte 1\n")  # as AOTInductor writes it
    subprocess.run(["g++", "-shared", "-o", library, source], check=True, capture_output=True)
    assert stack_flags(library) == "RWE"
    library.write_bytes(_without_executable_stack(library.read_bytes()))
    assert stack_flags(library) == "RW"
