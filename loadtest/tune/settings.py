"""What `pareto-loadtest tune` can be told, as flags (`protos.support.options`), and the run that it makes of that."""

from dataclasses import dataclass, field
from pathlib import Path

from loadtest import units
from loadtest.plan import Load, Plan
from protos.errors import UsageError
from protos.support.options import ABOVE_ZERO, MEGABYTES

DEFAULT_USERS = 8


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One variant, one load, the constraints, and the values to try. Raises `UsageError` for two loads."""

    repository: Path = Path("models")
    """the folder of built variants"""
    model: str
    """model that the variant is of"""
    variant: str
    """variant to serve"""
    users: int | None = field(default=None, metadata=units.COUNT)
    """concurrent users; each sends its next request when it has the last answer (default: 8 unless --rate is given)"""
    rate: float | None = field(default=None, metadata=units.RATE)
    """arrivals per second that must be carried, in place of --users: the lowest p99 is best then"""
    p99: float | None = field(default=None, metadata=units.MILLISECONDS)
    """highest p99 of the latency, such as 20ms: within it the highest throughput is best; without it the lowest p99"""
    max_memory: float | None = field(default=None, metadata=MEGABYTES)
    """most memory of the server with all of its processes, such as 500MB"""
    threads: tuple[int, ...] = field(default=(), metadata=units.COUNTS)
    """values of the server's --threads to try, separated by commas (default: powers of two up to the cores)"""
    workers: tuple[int, ...] = field(default=(), metadata=units.COUNTS)
    """values of the server's --workers to try, separated by commas (default: powers of two up to the cores)"""
    batch_max: tuple[int, ...] = field(default=(), metadata=units.COUNTS)
    """values of the server's --batch-max to try, separated by commas (default: the server's own, which it finds when it
    loads a variant, 1, and 64 where the load can fill it)"""
    duration: float = field(default=10.0, metadata=ABOVE_ZERO)
    """most seconds of load, in slices, on each configuration; with a constraint those that are beaten stop earlier"""
    out: Path = Path("runs/tune")
    """new folder for samples, results and report"""

    def __post_init__(self) -> None:
        """Checks that there is one load."""
        if self.users is not None and self.rate is not None:
            raise UsageError("--users and --rate: got both, expected one load")

    @property
    def load(self) -> Load:
        """Returns the load that all configurations get."""
        return Load("closed", self.users or DEFAULT_USERS) if self.rate is None else Load("server", self.rate)

    def plan(self, target: str) -> Plan:
        """Returns the run that measures the servers of `target`."""
        return Plan(
            target=target,
            model=self.model,
            variants=(self.variant,),
            out=self.out,
            users=() if self.rate else (self.users or DEFAULT_USERS,),
            rate=self.rate,
            p99=self.p99,
            max_memory=self.max_memory,
            until_decided=any(limit is not None for limit in (self.rate, self.p99, self.max_memory)),
            duration=self.duration,
            second_opinion=0.0,
            repository=self.repository,
        )
