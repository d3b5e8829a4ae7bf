"""Replicas that follow the load: Kubernetes' formula over the server's own metric, real servers, a real Envoy.

    make scaling        # three minutes: load rises to four fifths of what three servers can do, and falls again

It stands in for the controller, which needs a cluster: the formula, target, policies and bounds are those of
deploy/kubernetes/hpa/autoscaler.yaml, ten times as fast. It prints what happens second by second, and fails where a
call failed, where servers did not come and go, or where p99 left the objective before the metric left its target.
Source: https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/#algorithm-details
"""

import argparse
import asyncio
import math
import sys
import tempfile
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np

from tests.deploy.balancing import balancing
from tests.deploy.files import read
from tests.deploy.replicas import REQUEST, ROWS, SLOW
from tests.server.stress.slow import EXECUTION_SECONDS
from tests.support import toy
from tests.support.serving import ServerProcess, eventually, serving
from tests.support.steady import SteadyLoad

FASTER = 10
TOLERANCE = 0.1
"""Kubernetes changes nothing for less."""
OBJECTIVE = 0.1
"""Seconds, of p99."""
WINDOW = 60 / FASTER
"""Seconds over which the adapter's rule takes its rate."""
ONE = ROWS / EXECUTION_SECONDS
"""Calls per second that one server can answer."""


@dataclass
class Autoscaler:
    """How many replicas there are to be, by the `spec` of a HorizontalPodAutoscaler with one metric per pod."""

    spec: dict[str, Any]
    _changes: list[tuple[float, int]] = field(default_factory=list)
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def target(self) -> float:
        return float(self.spec["metrics"][0]["pods"]["target"]["averageValue"])

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


def waited(servers: list[ServerProcess]) -> list[float]:
    """The seconds that each server's requests have waited so far."""
    return [sum(server.metrics("pareto_queue_duration_seconds_sum").values()) for server in servers]


def follow(models: Path, folder: Path, seconds: float) -> list[str]:
    """Prints a line for each second; returns what is not as it should be."""
    scaler, readings = Autoscaler(read("kubernetes/hpa/autoscaler.yaml")["spec"]), deque[tuple[float, float]]()
    scaler.spec["minReplicas"] = 1  # two cores are few
    with ExitStack() as everything:
        servers = [everything.enter_context(serving(models, *SLOW, program="tests.server.stress.slow"))]
        envoy = everything.enter_context(balancing(folder, [servers[0].grpc_address]))
        load, begun, ended, peak = SteadyLoad(envoy.address, REQUEST, 10), monotonic(), 0.0, 1
        gone, seen, crossed = 0.0, 0, dict[str, float]()
        print("  s  calls/s  servers  waiting each  p99 ms")
        while (now := monotonic() - begun) < seconds:
            share = max(0.05, min(1.0, 1.5 * (1 - abs(2 * now / seconds - 1))))  # up, full, and down again
            load.at(0.8 * 3 * ONE * share)
            readings.append((now, gone + sum(waited(servers))))
            while readings[0][0] < now - WINDOW:
                readings.popleft()
            (then, before), (_, total) = readings[0], readings[-1]
            mean = (total - before) / max(now - then, 1.0) / len(servers)
            lately, seen = load.seconds[seen:], len(load.seconds)
            p99 = float(np.percentile(lately, 99)) if lately else 0.0
            print(f"{now:3.0f} {0.8 * 3 * ONE * share:8.0f} {len(servers):8} {mean:13.2f} {1e3 * p99:7.0f}", flush=True)
            if mean > scaler.target * (1 + TOLERANCE):
                crossed.setdefault("metric", now)
            if p99 > OBJECTIVE:
                crossed.setdefault("p99", now)
            wanted = scaler.replicas(now * FASTER, len(servers), mean)
            if wanted > len(servers):
                new = [serving(models, *SLOW, program="tests.server.stress.slow") for _ in range(wanted - len(servers))]
                servers += [everything.enter_context(each) for each in new]
                envoy.route_to([each.grpc_address for each in servers])
            elif wanted < len(servers):
                leaving, servers = servers[wanted:], servers[:wanted]
                envoy.route_to([each.grpc_address for each in servers])
                asyncio.run(eventually(envoy.healthy, {each.grpc_address for each in servers}))
                gone += sum(waited(leaving))
                for each in leaving:
                    each.signal()
                    each.wait()
            peak, ended = max(peak, len(servers)), len(servers)
            sleep(max(0.0, 1 - (monotonic() - begun - now)))
        outcomes = load.stop()
    print(f"{load.sent} calls: {dict(outcomes)}; up to {peak} servers, {ended} at the end")
    print(f"left first, at second: {crossed}")
    expected = {
        "every call was answered": outcomes == {"OK": load.sent},
        "servers came": peak >= 3,
        "servers went": ended < peak,
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
