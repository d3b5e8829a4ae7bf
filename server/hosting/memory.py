"""The memory of this process: what it takes, what it may take, and what a variant adds to it."""

import asyncio
import contextlib
import ctypes
import math
import os
from pathlib import Path
from time import monotonic

from protos.errors import UsageError
from protos.manifest import Variant
from server.settings import Settings

SPARE = 0.02
"""The share of the limit that no variant gets: requests take memory, too."""
TRIM_SECONDS = 1.0
"""How long ago the C library must have given back what was freed before it is asked again for nothing in particular."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


class Memory:
    """The resident memory of this process, as the system counts it, below its share of `--max-memory`.

    Libraries, buffers and mapped files are included. Raises `UsageError` where the process takes as much without any
    variant.
    """

    def __init__(self, settings: Settings) -> None:
        self.limit, self.bare = math.inf, 0
        """The most that the process takes, and what it took before any variant."""
        self._trimmed = 0.0
        if settings.max_memory is not None:
            self.limit, self.bare = _limits(settings.max_memory * 1e6 / settings.workers)
        self.for_variants = self.limit - self.bare
        """The most that all variants take, libraries included."""

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self.limit < math.inf

    def fits(self, more: int) -> bool:
        """Returns whether so many more bytes are below the limit."""
        return not self.limited or resident_bytes() + more <= self.limit

    def lacks(self, variant: Variant) -> str:
        """Returns why a variant never fits, whatever leaves; empty where it may.

        It may still be more than libraries leave, which are in memory for as long as the process.
        """
        if (needed := load_bytes(variant)) <= self.for_variants:
            return ""
        left = megabytes(self.for_variants)
        return f"loading it takes {megabytes(needed)}, --max-memory leaves {left} for all variants"

    async def give_back(self, freed: bool = False) -> None:
        """Has the C library return to the system what was freed; where nothing was just now, only once a second.

        A library other than glibc may not know how.
        """
        if freed or monotonic() - self._trimmed > TRIM_SECONDS:
            self._trimmed = monotonic()
            with contextlib.suppress(AttributeError):
                await asyncio.to_thread(ctypes.CDLL(None).malloc_trim, 0)


def resident_bytes() -> int:
    """Returns the resident memory of this process. Source: proc(5), /proc/[pid]/statm."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def load_bytes(variant: Variant | None) -> int:
    """Returns what loading takes for a moment, as measured when it was built, else the size of its files.

    0 for one whose manifest cannot be read: nothing is loaded then.
    """
    if variant is None:
        return 0
    return variant.footprint.load_peak_bytes if variant.footprint else variant.artifact_bytes


def held_bytes(variant: Variant, grown: int) -> int:
    """Returns what a loaded variant holds where the process has `grown` by so much meanwhile.

    The process may have used again what another had left to it, or have taken a library for all: it is at least what
    the variant's files are, and at most what loading it takes.
    """
    files = sum(file.unpacked_bytes or file.bytes for file in variant.files)
    return min(max(grown, files), load_bytes(variant))


def megabytes(count: float) -> str:
    """Returns a number of bytes as it is told."""
    return f"{count / 1e6:.0f} MB"


def _limits(size: float) -> tuple[float, int]:
    limit = size * (1 - SPARE)
    if (bare := resident_bytes()) >= limit:
        got = f"got {megabytes(size)} a process, expected more than the {megabytes(bare / (1 - SPARE))}"
        raise UsageError(f"--max-memory: {got} that one takes without any variant")
    _keep_little_of_what_is_freed()
    return limit, bare


def _keep_little_of_what_is_freed() -> None:
    """Fixes the limits that glibc else raises to 32 and 64 MB: so much would stay with each thread that loads.

    Source: mallopt(3)
    """
    with contextlib.suppress(AttributeError):
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(parameter, 2**20)
