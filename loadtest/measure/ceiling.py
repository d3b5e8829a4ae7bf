"""The load generator's ceiling: its throughput against a server that answers at once. No variant can show more."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from loadtest.client.payloads import Payload
from loadtest.measure.block import RunContext
from loadtest.measure.measurement import Ceiling, steady_latencies
from loadtest.plan import Block, Target
from protos.support import significance
from protos.tensors import DTYPES, encode_response
from protos.v1 import inference_pb2 as pb

WARMUP_SECONDS = 0.2


def measure(context: RunContext, seconds: float) -> tuple[Ceiling, ...]:
    """Measures one ceiling for each load of the plan, with the requests of the first variant."""
    (variant, served), ceilings = next(iter(context.variants.items())), list[Ceiling]()
    for load in context.plan.loads:
        answer = _zeros(context.payloads[variant, context.plan.rows_of(load)][0], served.metadata)
        with _null_server(answer) as address:
            plan = replace(context.plan, duration=seconds, warmup=WARMUP_SECONDS)
            null = replace(served, target=Target("null", address), metrics_url=None)
            taken = replace(context, plan=plan, variants={variant: null}).measure(Block(variant, load, 0))
        latencies = steady_latencies(taken.samples.rows)
        p50, calls = significance.quantile(latencies * 1e3, 0.5), len(latencies)
        cost = taken.process_seconds / calls * 1e6 if calls else None
        ceilings.append(Ceiling(load, taken.answered / taken.seconds, p50, cost))
    return tuple(ceilings)


def _zeros(payload: Payload, metadata: pb.ModelMetadataResponse) -> bytes:
    """Returns a serialized answer that `payload` accepts."""
    outputs = {}
    for output in metadata.outputs:
        shape = [payload.rows if size == -1 else size for size in output.shape]
        outputs[output.name] = np.zeros(shape, DTYPES[output.datatype])
    return encode_response(metadata.name, payload.variant, outputs).SerializeToString()


@contextmanager
def _null_server(answer: bytes) -> Iterator[str]:
    """Runs a null server that gives `answer`; yields its address."""
    command = [sys.executable, "-m", "loadtest.measure.null_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(answer)
            process.stdin.close()
            yield process.stdout.readline().decode().strip()
        finally:
            process.kill()
