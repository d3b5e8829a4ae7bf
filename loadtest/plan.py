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

from loadtest.units import (
    COUNT,
    COUNTS,
    MEGABYTES,
    MILLISECONDS,
    NAMES,
    POINTS,
    RATE,
    RATES,
    SHARE,
    above_zero,
    at_least,
)
from protos.errors import UsageError
from protos.support.options import Rule

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


def _targets(text: str) -> tuple[Target, ...]:
    parts = (part.rpartition("=") for part in text.split(","))
    return tuple(Target(name.strip(), address.strip()) for name, _, address in parts)


def _are_targets(text: str) -> bool:
    """Whether the first target has no name, the others have different names, and each has a host and a port."""
    first, *names = (target.name for target in _targets(text))
    addresses = [target.address.rpartition(":") for target in _targets(text)]
    named = not first and all(names) and len(set(names)) == len(names)
    return named and all(host and port.isdecimal() for host, _, port in addresses)


TARGETS: Rule = {"accepts": _are_targets, "expected": "HOST:PORT, and others as NAME=HOST:PORT"}

DEFAULT_USERS = (1, 8)

PLAN = "plan.toml"
"""The file of a run's folder from which it can be made again."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run measures and how. `UsageError` where it cannot be carried out."""

    target: str = field(metadata=TARGETS)
    """gRPC address of the server, HOST:PORT; others beside it follow with a name: HOST:PORT,triton=HOST:PORT"""
    model: str
    """model to load, as the server names it"""
    out: Path
    """new folder for samples, results and report"""
    variants: tuple[str, ...] = field(default=(), metadata=NAMES)
    """variants of the first server to compare, separated by commas; without it every one of the model that is ready"""
    users: tuple[int, ...] = field(default=(), metadata=COUNTS)
    """concurrent users, separated by commas; each sends its next request when it has the last answer (default: 1,8
    unless other loads are asked for)"""
    rates: tuple[float, ...] = field(default=(), metadata=RATES)
    """arrivals in a second, separated by commas: Poisson, whether or not earlier requests were answered"""
    offline: tuple[int, ...] = field(default=(), metadata=COUNTS)
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
    connections: int = field(default=8, metadata=COUNT)
    """connections over which requests that arrive at a rate, or offline, are spread"""
    rows: int = field(default=1, metadata=COUNT)
    """rows in each request, but for offline"""
    form: Form = "tensor"
    """what a row is sent as: the FP32 tensor, UINT8 pixels or a JPEG file, which the server makes the tensor of"""
    transport: Transport = "unary"
    """a call for each request (ModelInfer), or all of a connection on one stream (ModelStreamInfer)"""
    duration: float = field(default=3.0, metadata=above_zero())
    """seconds of steady state in one block"""
    rounds: int = field(default=3, metadata=COUNT)
    """blocks of each variant and load; variants take turns within a round"""
    warmup: float = field(default=0.5, metadata=at_least(0))
    """seconds of load between the last connection's first call and the steady state of each block, kept apart"""
    ceiling: float = field(default=1.0, metadata=at_least(0))
    """seconds of each load against a server that answers at once: the load generator's ceiling; 0: not measured"""
    check_accuracy: bool = False
    """send the repository's test split as well, under load: top-1 must be the manifest's, and all flips are listed"""
    reruns: float = field(default=0.25, metadata=at_least(0))
    """blocks measured again, as a share of all, at most: those around which the machine was not the same"""
    deadline: float = field(default=10.0, metadata=above_zero())
    """seconds after which a call is given up and counted as a failure"""
    wait: float = field(default=0.0, metadata=at_least(0))
    """seconds to give a server that is still starting, until it says that it is ready"""
    repository: Path = Path("models")
    """repository whose golden.npz holds real inputs; without one, inputs are made from the model's metadata"""
    metrics_url: str | None = None
    """the server's metrics page; without it the port above the target's is tried"""
    seed: int = 0
    """seed of the order of the variants and of made-up inputs"""

    def __post_init__(self) -> None:
        """Checks the rule over two fields; rules of one field are in its metadata."""
        if self.find_max_rate and self.p99 is None:
            raise UsageError("--find-max-rate: got no --p99, expected the p99 that must hold, such as --p99 20ms")

    @property
    def targets(self) -> tuple["Target", ...]:
        """The servers, the first without a name."""
        return _targets(self.target)

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
