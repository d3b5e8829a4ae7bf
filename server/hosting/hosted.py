"""One variant of the repository as it stands now, and why it could not be loaded."""

import asyncio
import errno
import math
import re
from dataclasses import dataclass, field
from time import monotonic
from typing import Literal

from protos.errors import NoRoomError, UnavailableError
from protos.manifest import Variant
from protos.repository import Entry
from server.execution.engine import Engine
from server.observability.metrics import State, VariantMetrics

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 60.0
"""From a failure that says nothing of the variant to the next try; it doubles."""

_LACKING = {
    *(errno.EAGAIN, errno.EBUSY, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
    *(errno.ESTALE, errno.ETIMEDOUT),
}
_SAYS_LACKING = re.compile(
    r"bad.?alloc|allocate memory|failed to map segment|start new thread|too many open files", re.IGNORECASE
)
"""What libraries say in errors of their own."""


@dataclass(frozen=True)
class Trouble:
    """Why a variant could not be loaded."""

    reason: str
    """In words that a client may read."""
    retry_at: float = math.inf
    """When it may be otherwise, by the monotonic clock; infinite where the variant itself is wrong."""
    pause: float = 0.0
    """Seconds from the failure to `retry_at`."""

    @property
    def passes(self) -> bool:
        """Whether it says nothing of the variant."""
        return self.retry_at < math.inf


@dataclass(eq=False)
class Hosted:
    """One variant, as it stands now."""

    entry: Entry
    """What the repository held when it was last read; while a newer one fails, not what serves."""
    metrics: VariantMetrics
    state: State | Literal["UNLOADED"] = "LOADING"
    trouble: Trouble | None = None
    """Why `entry` could not be loaded, if it could not."""
    served: tuple[Engine, Variant] | None = None
    """What answers its requests: one value, since threads read it while another publication takes its place."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it is loaded or unloaded."""

    @property
    def engine(self) -> Engine | None:
        """What executes it, while something does."""
        return self.served and self.served[0]

    @property
    def variant(self) -> Variant | None:
        """What serves, while something does."""
        return self.served and self.served[1]

    @property
    def described(self) -> Variant | None:
        """The variant that serves, else the one that should; None where the manifest cannot be read."""
        return self.variant or self.entry.variant

    @property
    def reason(self) -> str:
        """Why `entry` could not be loaded; empty where it could, or was not tried."""
        return self.trouble.reason if self.trouble else ""

    @property
    def rest(self) -> float:
        """How many seconds it is not to be tried again."""
        return max(0.0, self.trouble.retry_at - monotonic()) if self.trouble else 0.0

    @property
    def idle(self) -> bool:
        """Whether it is in memory and nobody uses it."""
        engine = self.engine
        return self.state == "READY" and engine is not None and not (self.metrics.in_flight or engine.executing)

    @property
    def label(self) -> str:
        """`model/variant`, as health and log name it."""
        return f"{self.entry.model}/{self.entry.name}"

    @property
    def available(self) -> bool:
        """Whether it can be asked."""
        return self.state in ("READY", "COLD")

    def serving(self) -> tuple[Engine | None, Variant]:
        """Returns what answers its requests, while it is COLD no engine; else `UnavailableError` with the reason."""
        state, served = self.state, self.served  # in this order: a state that is READY has something that serves
        if state == "READY" and served is not None:
            return served
        if state == "COLD" and self.entry.variant is not None:
            return None, self.entry.variant
        because = f": {self.reason}" if self.reason else ""
        raise UnavailableError(f"variant '{self.label}' is {state}{because}")


def trouble_of(error: Exception, reason: str, before: Trouble | None) -> Trouble:
    """Returns what comes of a failure after `before`. Where there is no room, nothing was tried that takes time."""
    if not passes(error):
        return Trouble(reason)
    pause = 0.0
    if not isinstance(error, NoRoomError):
        pause = min(max(FIRST_PAUSE_SECONDS, 2 * before.pause if before else 0.0), LONGEST_PAUSE_SECONDS)
    return Trouble(reason, monotonic() + pause, pause)


def passes(error: BaseException) -> bool:
    """Returns whether a failure says nothing of the variant: memory, a descriptor, a thread or a disk was missing."""
    found: BaseException | None = error
    while found is not None:
        lacking = isinstance(found, OSError) and found.errno in _LACKING
        if lacking or isinstance(found, (NoRoomError, MemoryError)) or _SAYS_LACKING.search(str(found)):
            return True
        found = found.__cause__
    return False
