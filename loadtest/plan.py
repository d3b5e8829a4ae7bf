"""The plan of a run: every setting once, the loads that it asks for, and the order in which variants take turns.

A `Load` has one of three scenarios, two of which MLPerf Inference names too (with one user, `closed` is its
SingleStream: https://github.com/mlcommons/inference_policies):

    closed    each of N users sends its next request when it has the last answer
    server    requests arrive at a rate as independent clients send them (Poisson), answered or not
    offline   as fast as possible, with many rows in each request

A field of `Plan` is a flag of `pareto-loadtest run`, the docstring under it the help (`protos.support.options`).
"""

import ipaddress
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from loadtest import units
from loadtest.access import Access
from protos.errors import UsageError
from protos.support.options import ABOVE_ZERO, MEGABYTES, Rule

Scenario = Literal["closed", "server", "offline"]
Form = Literal["tensor", "pixels", "jpeg"]
Transport = Literal["unary", "stream"]


@dataclass(frozen=True, order=True)
class Load:
    """The load on a variant: how requests come, and how many."""

    scenario: Scenario
    level: float
    """Users (closed), arrivals per second (server), rows in a request (offline)."""

    @property
    def name(self) -> str:
        """Returns the name for people: `8 users`."""
        if self.scenario == "closed":
            return "1 user" if self.level == 1 else f"{self.level:g} users"
        return f"{self.level:g} per second" if self.scenario == "server" else f"offline, {self.level:g} rows"

    @property
    def key(self) -> str:
        """Returns the name for files and pages: `closed-8`."""
        return f"{self.scenario}-{self.level:g}"


AT = " @ "
"""Stands between a variant and the name of its server; the first server of a plan has none."""


@dataclass(frozen=True)
class Target:
    """A server; the first one of a plan has no name."""

    name: str
    address: str

    def name_of(self, variant: str) -> str:
        """Returns the name in results of a variant on this server."""
        return f"{variant}{AT}{self.name}" if self.name else variant


def _targets(text: str) -> tuple[Target, ...]:
    parts = (part.rpartition("=") for part in text.split(","))
    return tuple(Target(name.strip(), address.strip()) for name, _, address in parts)


def _are_targets(text: str) -> bool:
    """Whether the first target has no name, the others have different names, and each has a host and a port."""
    first, *names = (target.name for target in _targets(text))
    named = not first and all(names) and len(set(names)) == len(names)
    return named and all(is_address(target.address) for target in _targets(text))


def is_address(text: str) -> bool:
    """Whether a text is HOST:PORT and nothing more: gRPC's own forms (`dns:///`, `ipv4:`, `unix:`) are not taken."""
    host, _, port = text.rpartition(":")
    return bool(_HOST.fullmatch(host) and _PORT.fullmatch(port)) and 0 < int(port) < 2**16


_HOST = re.compile(r"[^\s:/@\[\]]+|\[[0-9a-fA-F:.]+(%\w+)?\]")
"""A name or an IPv4 address, or an IPv6 address in brackets."""
_PORT = re.compile("[0-9]{1,5}")

Constraint = Literal["p99", "rate", "max_drop", "max_memory", "max_size"]
"""What a variant to ship must meet, as the field of `Plan` that has the limit is named."""
CONSTRAINTS = tuple(f"--{name.replace('_', '-')}" for name in get_args(Constraint))

TARGETS: Rule = {
    "accepts": _are_targets,
    "expected": "HOST:PORT, and others as NAME=HOST:PORT",
    "metavar": "HOST:PORT,...",
}

DEFAULT_USERS = (1, 8)

PLAN = "plan.toml"
"""The file in a run's folder from which `replay` reads the plan."""


@dataclass(frozen=True, kw_only=True)
class Plan(Access):
    """What a run measures and how. Raises `UsageError` where it cannot be carried out."""

    target: str = field(metadata=TARGETS)
    """gRPC address of the server, HOST:PORT without http:// or dns:///; more servers follow with a name:
    HOST:PORT,triton=HOST:PORT"""
    model: str = field(metadata={"metavar": "NAME"})
    """model to load, as the server names it"""
    out: Path
    """new folder for samples, results and report"""
    variants: tuple[str, ...] = field(default=(), metadata=units.NAMES)
    """variants of the first server to compare, separated by commas; without it, all that are ready"""
    users: tuple[int, ...] = field(default=(), metadata=units.COUNTS)
    """concurrent users, separated by commas; each sends its next request when it has the last answer (default: 1,8
    unless another load is given)"""
    rates: tuple[float, ...] = field(default=(), metadata=units.RATES)
    """arrivals per second, separated by commas: Poisson, whether or not earlier requests were answered"""
    offline: tuple[int, ...] = field(default=(), metadata=units.COUNTS)
    """rows in a request, separated by commas: as fast as possible, with one request on each connection"""
    find_max_rate: bool = False
    """search for the highest arrival rate of each variant at which --p99 and --error-rate hold, in trials of
    --duration or longer"""
    p99: float | None = field(default=None, metadata=units.MILLISECONDS)
    """highest p99 of the latency of a variant to ship, such as 20ms"""
    rate: float | None = field(default=None, metadata=units.RATE)
    """arrivals per second that a variant to ship must carry; added to --rates"""
    max_drop: float | None = field(default=None, metadata=units.POINTS)
    """how far a variant to ship may be below FP32, in percentage points of its metric, top-1 or AP"""
    max_memory: float | None = field(default=None, metadata=MEGABYTES)
    """most memory of a variant to ship, such as 200MB"""
    max_size: float | None = field(default=None, metadata=MEGABYTES)
    """largest artifact on disk of a variant to ship, such as 20MB"""
    error_rate: float = field(default=0.001, metadata=units.SHARE)
    """share of the calls that may fail at a rate that --find-max-rate finds, such as 0.1%"""
    connections: int = field(default=8, metadata=units.COUNT)
    """connections that share the requests of --rates and --offline"""
    rows: int = field(default=1, metadata=units.COUNT)
    """rows in each request, except for --offline"""
    form: Form | None = None
    """how a row is sent: as the FP32 tensor, or as UINT8 pixels or a JPEG file that the server turns into it (default:
    tensor; jpeg for a detector with golden inputs in --repository)"""
    transport: Transport = "unary"
    """send each request as a call (ModelInfer), or all of a connection on one stream (ModelStreamInfer)"""
    duration: float = field(default=5.0, metadata=ABOVE_ZERO)
    """seconds of load, in slices, on each variant under each load; the least that a trial of --find-max-rate lasts"""
    slice: float = field(default=0.05, metadata=ABOVE_ZERO)
    """seconds of a slice: a round is one slice of each variant in random order, and what changes on the machine
    meanwhile meets all of them"""
    sustained: float = field(default=3.0, metadata=units.at_least(0))
    """seconds without a break of each of --rates on each variant, after the slices, for its percentiles: queues grow
    for longer than a slice; 0 takes them from the slices"""
    until_decided: bool = False
    """stop a variant under a load as soon as it breaks a constraint or the best one beats it beyond doubt; each gets a
    quarter of --duration, and the others at most all of it"""
    warmup: float = field(default=0.5, metadata=units.at_least(0))
    """seconds of load on each variant before its first slice; these calls are kept apart"""
    ceiling: float = field(default=1.0, metadata=units.at_least(0))
    """seconds of each load against a server that answers at once, to find what the load generator can do; 0 skips it"""
    second_opinion: float = field(default=2.0, metadata=units.at_least(0))
    """seconds for which h2load asks the fastest variant too, and with which the load generator's own share of the
    machine is extrapolated to none, about seven times as long in all; 0 skips both"""
    check_accuracy: bool = False
    """also send the repository's test split under load: top-1 or AP must equal the manifest's, and all changed
    predictions are listed"""
    deadline: float = field(default=10.0, metadata=ABOVE_ZERO)
    """seconds until a call without an answer counts as failed"""
    wait: float = field(default=0.0, metadata=units.at_least(0))
    """seconds to wait for a server that is still starting"""
    repository: Path = Path("models")
    """repository whose golden.npz holds real inputs; without it, random inputs are made from the model's metadata"""
    metrics_url: str | None = field(default=None, metadata={"metavar": "URL"})
    """the server's metrics page; without it, the port above the target's is tried"""
    seed: int = 0
    """seed for the order of the variants and for random inputs"""

    def __post_init__(self) -> None:
        """Checks the rules over several fields."""
        super().__post_init__()
        if self.find_max_rate and self.p99 is None:
            raise UsageError("--find-max-rate: got no --p99, expected the p99 that must hold, such as --p99 20ms")
        if self.until_decided and not self.constrained:
            raise UsageError("--until-decided: got no constraint, expected one of " + ", ".join(CONSTRAINTS))

    @property
    def limits(self) -> dict[Constraint, float | None]:
        """Returns what a variant to ship must meet; None where there is no limit."""
        return {
            "p99": self.p99,
            "rate": self.rate,
            "max_drop": self.max_drop,
            "max_memory": self.max_memory,
            "max_size": self.max_size,
        }

    @property
    def constrained(self) -> bool:
        """Returns whether a variant to ship must meet anything."""
        return any(limit is not None for limit in self.limits.values())

    @property
    def rounds(self) -> int:
        """Returns in how many slices the load on a variant comes."""
        return max(1, round(self.duration / self.slice))

    @property
    def targets(self) -> tuple["Target", ...]:
        """Returns the servers, the first without a name."""
        return _targets(self.target)

    @property
    def loads(self) -> tuple[Load, ...]:
        """Returns all loads of the plan."""
        rates = dict.fromkeys(self.rates if self.rate is None else (*self.rates, self.rate))
        users = self.users or (() if rates or self.offline or self.find_max_rate else DEFAULT_USERS)
        return (
            *(Load("closed", number) for number in users),
            *(Load("server", rate) for rate in rates),
            *(Load("offline", rows) for rows in self.offline),
        )

    def users_of(self, load: Load) -> int:
        """Returns the users, and thus connections, that carry a load."""
        return int(load.level) if load.scenario == "closed" else self.connections

    def rows_of(self, load: Load) -> int:
        """Returns the rows in each request of a load."""
        return int(load.level) if load.scenario == "offline" else self.rows

    @property
    def on_one_machine(self) -> bool:
        """Returns whether the server is on the load generator's machine, as far as its address says."""
        host = self.targets[0].address.rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


@dataclass(frozen=True)
class Block:
    """One stretch of load on one variant, of seconds rather than of slices."""

    variant: str
    load: Load
    round: int


def order(plan: Plan, load: Load, round_: int, variants: Sequence[str]) -> list[str]:
    """Returns the variants in the order in which they take their turns in a round: shuffled, and always the same.

    What drifts while a run lasts (heat, neighbours) thus meets all variants alike.
    """
    return random.Random(f"{plan.seed} {load.key} {round_}").sample(variants, len(variants))
