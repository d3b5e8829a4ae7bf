"""The plan of a run: every setting once, and the order in which blocks are measured.

A field of `Plan` is a flag of `pareto-loadtest run`, the docstring under it the help (`protos.options`). The
plan is saved with the results, so that a run says how it was made.
"""

import ipaddress
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from protos.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run measures and how. `UsageError` where it cannot be carried out."""

    target: str
    """gRPC address of the server, HOST:PORT"""
    model: str
    """model to load, as the server names it"""
    out: Path
    """new folder for samples, results and report"""
    variants: tuple[str, ...] = ()
    """variants to compare, separated by commas; without it every variant of the model that is ready"""
    users: tuple[int, ...] = (1, 8)
    """concurrent users, separated by commas; each sends its next request when it has the last answer"""
    duration: float = 3.0
    """seconds of steady state in one block"""
    rounds: int = 3
    """blocks of each variant and number of users; variants take turns within a round"""
    warmup: float = 0.5
    """seconds of load between the last user's first call and the steady state of each block, kept apart from it"""
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
        host, _, port = self.target.rpartition(":")
        rules = {
            f"--target: '{self.target}' came, expected HOST:PORT": bool(host) and port.isdecimal(),
            f"--users: {list(self.users)} came, expected different numbers of at least 1": bool(self.users)
            and min(self.users) >= 1
            and len(set(self.users)) == len(self.users),
            f"--variants: {list(self.variants)} came, expected each once": all(self.variants)
            and len(set(self.variants)) == len(self.variants),
            f"--duration: {self.duration} came, expected more than 0 seconds": 0 < self.duration < float("inf"),
            f"--rounds: {self.rounds} came, expected at least 1": self.rounds >= 1,
            f"--warmup: {self.warmup} came, expected 0 seconds or more": 0 <= self.warmup < float("inf"),
            f"--wait: {self.wait} came, expected 0 seconds or more": 0 <= self.wait < float("inf"),
            f"--deadline: {self.deadline} came, expected more than 0 seconds": 0 < self.deadline < float("inf"),
        }
        if broken := [rule for rule, holds in rules.items() if not holds]:
            raise UsageError(broken[0])

    @property
    def on_one_machine(self) -> bool:
        """Whether the server is on the load generator's machine, as far as its address says."""
        host = self.target.removeprefix("http://").rpartition(":")[0].strip("[]")
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


@dataclass(frozen=True)
class Block:
    """One stretch of load: some users on one variant, in one round."""

    variant: str
    users: int
    round: int


def schedule(plan: Plan, variants: Sequence[str]) -> list[Block]:
    """Every block in the order of measuring: for each round and number of users, the variants shuffled.

    What drifts while a run lasts (heat, neighbours) thus meets all variants alike.
    """
    order = random.Random(plan.seed)
    blocks = []
    for round_ in range(1, plan.rounds + 1):
        for users in plan.users:
            blocks += [Block(variant, users, round_) for variant in order.sample(variants, len(variants))]
    return blocks
