"""The plan of a run: every setting once, the loads that it asks for, and the order in which blocks are measured.

A `Load` is one way to ask; three scenarios, two of which MLPerf Inference names too (with one user, the first is
its SingleStream: https://github.com/mlcommons/inference_policies):

    closed    N users, each sending its next request when it has the last answer
    server    requests arrive at a rate as independent clients send them (Poisson), answered or not
    offline   as fast as possible, with many rows in each request

A field of `Plan` is a flag of `pareto-loadtest run`, the docstring under it the help (`protos.support.options`). The
plan is saved with the results, so that a run says how it was made.
"""

import ipaddress
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from loadtest.units import MEGABYTES, MILLISECONDS, POINTS, RATE, SHARE
from protos.errors import UsageError
from protos.support.options import PER_SECOND

Scenario = Literal["closed", "server", "offline"]
Form = Literal["tensor", "pixels", "jpeg"]
Transport = Literal["unary", "stream"]


@dataclass(frozen=True, order=True)
class Load:
    """How a variant is asked, and how hard."""

    scenario: Scenario
    level: float
    """Users (closed), arrivals in a second (server), rows in a request (offline)."""

    @property
    def name(self) -> str:
        """What people call it."""
        if self.scenario == "closed":
            return "1 user" if self.level == 1 else f"{self.level:g} users"
        return f"{self.level:g} per second" if self.scenario == "server" else f"offline, {self.level:g} rows"

    @property
    def key(self) -> str:
        """The same for files and pages: `closed-8`."""
        return f"{self.scenario}-{self.level:g}"


@dataclass(frozen=True)
class Target:
    """A server; the first of a plan has no name."""

    name: str
    address: str

    def name_of(self, variant: str) -> str:
        """What a variant on it is called in results."""
        return f"{variant} @ {self.name}" if self.name else variant


DEFAULT_USERS = (1, 8)

PLAN = "plan.toml"
"""The file of a run's folder from which it can be made again."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run measures and how. `UsageError` where it cannot be carried out."""

    target: str
    """gRPC address of the server, HOST:PORT; others beside it follow with a name: HOST:PORT,triton=HOST:PORT"""
    model: str
    """model to load, as the server names it"""
    out: Path
    """new folder for samples, results and report"""
    variants: tuple[str, ...] = ()
    """variants of the first server to compare, separated by commas; without it every one of the model that is ready"""
    users: tuple[int, ...] = ()
    """concurrent users, separated by commas; each sends its next request when it has the last answer (default: 1,8
    unless other loads are asked for)"""
    rates: tuple[float, ...] = field(default=(), metadata=PER_SECOND)
    """arrivals in a second, separated by commas: Poisson, whether or not earlier requests were answered"""
    offline: tuple[int, ...] = ()
    """rows in a request, separated by commas: as fast as possible, with one request on each connection"""
    find_max_rate: bool = False
    """search the highest arrival rate of each variant at which --p99 and --error-rate hold, in trials of --duration or
    longer"""
    p99: float | None = field(default=None, metadata=MILLISECONDS)
    """p99 of the latency that the variant to ship may have, such as 20ms"""
    rate: float | None = field(default=None, metadata=RATE)
    """arrivals in a second that it must carry; it is one of the --rates then"""
    max_drop: float | None = field(default=None, metadata=POINTS)
    """points of top-1 that it may be below FP32"""
    max_memory: float | None = field(default=None, metadata=MEGABYTES)
    """memory that it may take, such as 200MB"""
    error_rate: float = field(default=0.001, metadata=SHARE)
    """share of the calls that may fail in a search, such as 0.1%"""
    connections: int = 8
    """connections over which requests that arrive at a rate, or offline, are spread"""
    rows: int = 1
    """rows in each request, but for offline"""
    form: Form = "tensor"
    """what a row is sent as: the FP32 tensor, UINT8 pixels or a JPEG file, which the server makes the tensor of"""
    transport: Transport = "unary"
    """a call for each request (ModelInfer), or all of a connection on one stream (ModelStreamInfer)"""
    duration: float = 3.0
    """seconds of steady state in one block"""
    rounds: int = 3
    """blocks of each variant and load; variants take turns within a round"""
    warmup: float = 0.5
    """seconds of load between the last connection's first call and the steady state of each block, kept apart"""
    ceiling: float = 1.0
    """seconds of each load against a server that answers at once: the load generator's ceiling; 0: not measured"""
    check_accuracy: bool = False
    """send the repository's test split as well, under load: top-1 must be the manifest's, and all flips are listed"""
    reruns: float = 0.25
    """blocks measured again, as a share of all, at most: those around which the machine was not the same"""
    deadline: float = 10.0
    """seconds after which a call is given up and counted as a failure"""
    wait: float = 0.0
    """seconds to give a server that is still starting, until it says that it is ready"""
    repository: Path = Path("models")
    """repository whose golden.npz holds real inputs; without one, inputs are made from the model's metadata"""
    metrics_url: str | None = None
    """the server's metrics page; without it the port above the target's is tried"""
    seed: int = 0
    """seed of the order of the variants and of made-up inputs"""

    def __post_init__(self) -> None:
        rules = {
            f"--target: '{self.target}' came, expected HOST:PORT, and others as NAME=HOST:PORT": _named(self.targets),
            f"--users: {list(self.users)} came, expected different numbers of at least 1": _levels(self.users, 1),
            f"--rates: {list(self.rates)} came, expected different numbers above 0": _levels(self.rates, 1e-9),
            f"--rate: {self.rate} came, expected more than 0": self.rate is None or 0 < self.rate < float("inf"),
            f"--max-drop: {self.max_drop} came, expected 0 points or more": self.max_drop is None or self.max_drop >= 0,
            f"--offline: {list(self.offline)} came, expected different numbers of at least 1": _levels(self.offline, 1),
            "--find-max-rate: no --p99 came, expected the p99 that must hold, such as --p99 20ms": self.p99 is not None
            or not self.find_max_rate,
            f"--error-rate: {self.error_rate} came, expected less than 1": self.error_rate < 1,
            f"--connections: {self.connections} came, expected at least 1": self.connections >= 1,
            f"--rows: {self.rows} came, expected at least 1": self.rows >= 1,
            f"--variants: {list(self.variants)} came, expected each once": all(self.variants)
            and len(set(self.variants)) == len(self.variants),
            f"--duration: {self.duration} came, expected more than 0 seconds": 0 < self.duration < float("inf"),
            f"--rounds: {self.rounds} came, expected at least 1": self.rounds >= 1,
            f"--warmup: {self.warmup} came, expected 0 seconds or more": 0 <= self.warmup < float("inf"),
            f"--ceiling: {self.ceiling} came, expected 0 seconds or more": 0 <= self.ceiling < float("inf"),
            f"--reruns: {self.reruns} came, expected 0 or more": 0 <= self.reruns < float("inf"),
            f"--wait: {self.wait} came, expected 0 seconds or more": 0 <= self.wait < float("inf"),
            f"--deadline: {self.deadline} came, expected more than 0 seconds": 0 < self.deadline < float("inf"),
        }
        if broken := [rule for rule, holds in rules.items() if not holds]:
            raise UsageError(broken[0])

    @property
    def targets(self) -> tuple["Target", ...]:
        """The servers, the first without a name."""
        parts = (part.rpartition("=") for part in self.target.split(","))
        return tuple(Target(name.strip(), address.strip()) for name, _, address in parts)

    @property
    def loads(self) -> tuple[Load, ...]:
        """All that are asked for."""
        rates = dict.fromkeys((*self.rates, *(() if self.rate is None else (self.rate,))))
        users = self.users or (() if rates or self.offline or self.find_max_rate else DEFAULT_USERS)
        return (
            *(Load("closed", number) for number in users),
            *(Load("server", rate) for rate in rates),
            *(Load("offline", rows) for rows in self.offline),
        )

    def users_of(self, load: Load) -> int:
        """Users, and thus connections, that carry a load."""
        return int(load.level) if load.scenario == "closed" else self.connections

    def rows_of(self, load: Load) -> int:
        """Rows in each request of a load."""
        return int(load.level) if load.scenario == "offline" else self.rows

    @property
    def on_one_machine(self) -> bool:
        """Whether the server is on the load generator's machine, as far as its address says."""
        host = self.targets[0].address.removeprefix("http://").rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


@dataclass(frozen=True)
class Block:
    """One stretch of load on one variant, in one round."""

    variant: str
    load: Load
    round: int


def schedule(plan: Plan, variants: Sequence[str]) -> list[Block]:
    """Every block in the order of measuring: for each round and load, the variants shuffled.

    What drifts while a run lasts (heat, neighbours) thus meets all variants alike.
    """
    order = random.Random(plan.seed)
    blocks = []
    for round_ in range(1, plan.rounds + 1):
        for load in plan.loads:
            blocks += [Block(variant, load, round_) for variant in order.sample(variants, len(variants))]
    return blocks


def _named(targets: Sequence[Target]) -> bool:
    names, parts = [target.name for target in targets], [target.address.rpartition(":") for target in targets]
    return (
        names[0] == ""
        and all(names[1:])
        and len(set(names)) == len(names)
        and all(host and port.isdecimal() for host, _, port in parts)
    )


def _levels(levels: Sequence[float], least: float) -> bool:
    return all(least <= level < float("inf") for level in levels) and len(set(levels)) == len(levels)
