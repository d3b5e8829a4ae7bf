"""What Ray Serve costs: one replica behind its proxy beside the same server alone, in turns.

    make ray-overhead                               # by Ray's proxy, a minute and a half
    RAY_SERVE_ENABLE_HA_PROXY=1 make ray-overhead   # by HAProxy, which ray[serve-grpc] brings

Both have the same variant, cores and environment; h2load calls them by one connection, as `make replicas` does.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import sleep

import psutil

from tests.deploy.envoy.replicas import cpu, in_turns
from tests.deploy.ray.cluster import Cluster, cluster
from tests.support import toy
from tests.support.serving import serving

IDLE_SECONDS = 10.0


def compare(models: Path, ray: Cluster, rounds: int, seconds: float) -> None:
    """Prints a line for each way and number of calls in flight."""
    rays = (*ray.pids(), ray.proxy_pid(), *ray.other_pids())
    with serving(models) as server:
        ways = {"direct": (server.grpc_address, (server.pid,)), "Ray": (ray.address, rays)}
        found = in_turns(ways, rounds, seconds)
    print("| in flight | way | RPC/s | p50 ms | server CPU us | Ray's CPU us |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for (way, calls), turns in found.items():
        sums = [(rps, p50, serves, sum(rest)) for rps, p50, serves, *rest in turns]
        rps, p50, serves, beside = (median(column) for column in zip(*sums, strict=True))
        print(f"| {calls} | {way} | {rps:,.0f} | {p50:.2f} | {serves:.0f} | {f'{beside:.0f}' if beside else ''} |")


def idle(ray: Cluster) -> None:
    """Prints what Ray takes where nobody calls."""
    sleep(IDLE_SECONDS)  # helpers of its start are gone
    pids = [*ray.pids(), ray.proxy_pid(), *ray.other_pids()]
    before = [cpu(pid) for pid in pids]
    sleep(IDLE_SECONDS)
    share = sum(cpu(pid) - was for pid, was in zip(pids, before, strict=True)) / IDLE_SECONDS
    memory = sum(psutil.Process(pid).memory_full_info().uss for pid in pids)
    print(f"idle, with one replica: {len(pids)} processes, {share:.0%} of a core, {memory / 1e6:,.0f} MB")


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of calls by each way")
    parser.add_argument("--seconds", type=float, default=3, help="of each turn")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        models = toy.repository(Path(folder, "models"), ("onnxruntime",))
        with cluster(Path(folder), models) as ray:
            alone = {"min_replicas": 1, "max_replicas": 1}
            ray.deploy(ray.with_args({"batch-max": 16}, autoscaling_config=alone, ray_actor_options={"num_cpus": 2}))
            idle(ray)
            compare(models, ray, given.rounds, given.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
