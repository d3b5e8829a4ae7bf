"""What one core can send: one generator process, kept on one core, against a server on the others that answers at once.

    python -m loadtest.generator.one_core [SECONDS]

Locust has one thread, so a worker for each core is what a machine can use. A row whose core is not busy all of the time
says what the server can do, not the generator.
"""

from loadtest.measure.block import clocks  # makes this a Locust process, so before all else

# isort: split
import os
import sys
import time

import numpy as np

from loadtest.analysis.percentiles import percentiles
from loadtest.client.payloads import Payload
from loadtest.measure.ceiling import null_server
from loadtest.measure.measurement import steady_latencies
from loadtest.users.recorder import Recorder
from loadtest.users.users import swarm
from protos.tensors import Array, encode_request, encode_response

IMAGES: dict[str, Array] = {
    "32x32 as FP32": np.zeros((1, 3, 32, 32), np.float32),
    "224x224 as UINT8": np.zeros((1, 224, 224, 3), np.uint8),
    "224x224 as FP32": np.zeros((1, 3, 224, 224), np.float32),
}
USERS = (1, 8, 32)
WARMUP = 0.2
"""Of the time that is measured, before it."""


def main(seconds: float) -> None:
    """Prints a table."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit(f"got {len(cores)} core, expected two or more: one for the generator, others for the server")
    answer = encode_response("null", "null", {"logits": np.zeros((1, 10), np.float32)}).SerializeToString()
    os.sched_setaffinity(0, cores[:-1])
    with null_server(answer) as address:  # it stays on the cores on which it was started
        os.sched_setaffinity(0, cores[-1:])
        print("| request | KB | users | RPC/s | p50 ms | p99 ms | CPU us | core busy |\n|" + " --- |" * 8)
        for name, image in IMAGES.items():
            request = encode_request("null", "null", {"input": image}).SerializeToString()
            payload = Payload("null", request, 1, {"logits": (-1, 10)})
            for users in USERS:
                row = _measure(address, payload, users, seconds)
                print(f"| {name} | {len(request) / 1000:.1f} | {users} | {row} |", flush=True)


def _measure(address: str, payload: Payload, users: int, seconds: float) -> str:
    """Returns the rest of a line: of a closed loop of so many users."""
    recorder = Recorder()
    with swarm(address, [payload], users, 10.0, recorder.on_request):
        recorder.wait_for_users(users, 10.0, time.sleep)
        time.sleep(WARMUP * seconds)
        opened = clocks()
        time.sleep(seconds)
        closed = clocks()
    wall, _, process = (end - start for start, end in zip(opened, closed, strict=True))
    window = opened[0], closed[0]
    latency, answered = percentiles(steady_latencies(recorder.samples(0.0, window).rows)), recorder.answered(window)
    p50, p99 = (f"{ms:.2f}" if ms else "n/a" for ms in (latency.p50, latency.p99))
    return f"{answered / wall:,.0f} | {p50} | {p99} | {process / answered * 1e6:.0f} | {process / wall:.0%}"


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
