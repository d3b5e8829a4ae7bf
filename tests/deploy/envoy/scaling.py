"""Replicas that follow the load: Kubernetes' formula over the server's own metric, real servers, a real Envoy.

    make scaling        # three minutes: load rises to four fifths of what three servers can do, and falls again

It stands in for the controller, which needs a cluster: the formula, target, policies and bounds are those of
deploy/kubernetes/hpa/autoscaler.yaml, ten times as fast. It prints what happens second by second, and fails where a
call failed, where servers did not come and go, or where p99 left the objective before the metric left its target.

The metric is the mean number of requests under way in a server: the seconds that requests spent in it, in each second.
Source: https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/#algorithm-details
"""

import argparse
import math
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np

from tests.deploy.envoy.replicas import CAPACITY, LOAD, REQUEST, Fleet
from tests.deploy.files import read
from tests.support import toy
from tests.support.serving import ServerProcess
from tests.support.steady import SteadyLoad

FASTER = 10
TOLERANCE = 0.1
"""Kubernetes changes nothing for less."""
OBJECTIVE = 0.1
"""Seconds, of p99."""
WINDOW = 60 / FASTER
"""Seconds over which the adapter's rule takes its rate."""


@dataclass
class Autoscaler:
    """How many replicas there are to be, by the `spec` of a HorizontalPodAutoscaler with one metric per pod."""

    spec: dict[str, Any]
    _changes: list[tuple[float, int]] = field(default_factory=list)
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def target(self) -> float:
        value = str(self.spec["metrics"][0]["pods"]["target"]["averageValue"])
        return float(value[:-1]) / 1000 if value.endswith("m") else float(value)

    def replicas(self, now: float, current: int, mean: float) -> int:
        """The replicas from `now` on, in seconds, where `current` have `mean` of the metric each."""
        ratio = mean / self.target
        desired = current if abs(ratio - 1) <= TOLERANCE else math.ceil(current * ratio)
        desired = min(max(desired, self.spec["minReplicas"]), self.spec["maxReplicas"])
        down, up = self.spec["behavior"]["scaleDown"], self.spec["behavior"]["scaleUp"]
        self._wanted.append((now, desired))
        while self._wanted[0][0] < now - down["stabilizationWindowSeconds"]:
            self._wanted.popleft()
        if desired <= current:  # the most that was wanted lately
            desired = min(current, max(wanted for _, wanted in self._wanted))
        desired = self._within(now, current, desired, (up if desired > current else down)["policies"][0])
        if desired != current:
            self._changes.append((now, desired - current))
        return desired

    def _within(self, now: float, current: int, desired: int, policy: dict[str, Any]) -> int:
        """What the policy lets be: so many pods, or so many percent, in a period."""
        sign = 1 if desired > current else -1
        lately = [step for at, step in self._changes if at > now - policy["periodSeconds"] and step * sign > 0]
        begun = current - sum(lately)
        most = policy["value"] if policy["type"] == "Pods" else math.ceil(begun * policy["value"] / 100)
        return min(desired, begun + most) if sign > 0 else max(desired, begun - most)


SPENT = "pareto_request_duration_seconds_sum"
WAITED, WAITS = "pareto_queue_duration_seconds_sum", "pareto_queue_duration_seconds_count"


def totals(servers: Sequence[ServerProcess]) -> Counter[str]:
    """What these servers have counted of each of the three so far."""
    found = Counter[str]()
    for server in servers:
        for (name, _), value in server.metrics(SPENT, WAITED, WAITS).items():
            found[name] += value  # type: ignore[assignment]  # a Counter adds up fractions as well
    return found


class Scaled(Fleet):
    """As many slow servers as one asks for; one to begin with."""

    def __init__(self, models: Path, folder: Path, everything: ExitStack) -> None:
        super().__init__(models, folder, everything, 1)
        self._gone = Counter[str]()

    def totals(self) -> Counter[str]:
        """As `totals`, with what those that left had."""
        return self._gone + totals(self.servers)

    def scale(self, replicas: int) -> None:
        """Starts some, or lets some leave."""
        leaving, self.servers = self.servers[replicas:], self.servers[:replicas]
        self.servers += [self.start() for _ in range(replicas - len(self.servers))]
        self.route()
        self._gone += totals(leaving)
        for server in leaving:
            server.signal()
            server.wait()


def follow(models: Path, folder: Path, seconds: float) -> list[str]:
    """Prints a line for each second; returns what is not as it should be."""
    scaler, readings = Autoscaler(read("kubernetes/hpa/autoscaler.yaml")["spec"]), deque[tuple[float, Counter[str]]]()
    scaler.spec["minReplicas"] = 1  # two cores are few
    seen, crossed, sizes = 0, dict[str, float](), list[int]()
    print("  s  calls/s  servers  under way  waits ms  p99 ms")
    with ExitStack() as everything:
        fleet, begun = Scaled(models, folder, everything), monotonic()
        load = everything.enter_context(SteadyLoad(fleet.envoy.address, REQUEST, 10))
        while (now := monotonic() - begun) < seconds:
            up_and_down = 1 - abs(2 * now / seconds - 1)
            rate = LOAD * CAPACITY * max(0.05, min(1.0, 1.5 * up_and_down))
            load.at(rate)
            readings.append((now, fleet.totals()))
            while readings[0][0] < now - WINDOW:
                readings.popleft()
            grown = {name: total - readings[0][1][name] for name, total in readings[-1][1].items()}
            size = len(fleet.servers)
            mean = grown.get(SPENT, 0.0) / max(now - readings[0][0], 1.0) / size
            wait = grown.get(WAITED, 0.0) / max(grown.get(WAITS, 0.0), 1.0)
            lately, seen = load.seconds[seen:], len(load.seconds)
            p99 = float(np.percentile(lately, 99)) if lately else 0.0
            print(f"{now:3.0f} {rate:8.0f} {size:8} {mean:10.1f} {1e3 * wait:9.1f} {1e3 * p99:7.0f}", flush=True)
            for name, over in (("metric", mean > scaler.target * (1 + TOLERANCE)), ("p99", p99 > OBJECTIVE)):
                if over:
                    crossed.setdefault(name, now)
            sizes.append(scaler.replicas(now * FASTER, size, mean))
            if sizes[-1] != size:
                fleet.scale(sizes[-1])
            sleep(max(0.0, 1 - (monotonic() - begun - now)))
    print(f"{load.sent} calls: {dict(load.outcomes)}; up to {max(sizes)} servers, {sizes[-1]} at the end")
    print(f"left first, at second: {crossed}")
    expected = {
        "every call was answered": load.outcomes == {"OK": load.sent},
        "servers came": max(sizes) >= 3,
        "servers went": sizes[-1] < max(sizes),
        "the metric rose before p99": crossed.get("metric", math.inf) <= crossed.get("p99", math.inf),
    }
    return [f"not so: {what}" for what, holds in expected.items() if not holds]


def main() -> int:
    """The exit code is 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(prog="scaling", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as models, tempfile.TemporaryDirectory() as folder:
        wrong = follow(toy.repository(Path(models), ("onnxruntime",)), Path(folder), given.seconds)
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
