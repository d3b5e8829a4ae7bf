"""The load generator's ceiling: its throughput against a server that answers at once. No variant can show more.

Where the plan asks for TLS or a token, the generator does that work here too: the null server speaks TLS by a
certificate of its own, and calls bring a token of the same length that is not the plan's.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import grpc
import numpy as np

from loadtest.client.credentials import Credentials
from loadtest.client.payloads import Payload
from loadtest.measure.block import RunContext
from loadtest.measure.measurement import Ceiling, steady_latencies
from loadtest.measure.null_server import CERTIFICATE
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
        credentials = _stand_in(context.credentials)
        with null_server(answer, *(["--tls"] if credentials.channel else [])) as address:
            plan = replace(context.plan, duration=seconds, warmup=WARMUP_SECONDS)
            null = replace(served, target=Target("null", address), metrics_url=None)
            alone = replace(context, plan=plan, variants={variant: null}, credentials=credentials)
            taken = alone.measure(Block(variant, load, 0))
        latencies = steady_latencies(taken.samples.rows)
        p50, calls = significance.quantile(latencies * 1e3, 0.5), len(latencies)
        cost = taken.process_seconds / calls * 1e6 if calls else None
        ceilings.append(Ceiling(load, taken.answered / taken.seconds, p50, cost))
    return tuple(ceilings)


def _stand_in(credentials: Credentials) -> Credentials:
    """Returns credentials for the null server that cost the load generator what the plan's own do."""
    channel = grpc.ssl_channel_credentials(CERTIFICATE.read_bytes()) if credentials.channel else None
    return Credentials(channel, "0" * len(credentials.token))


def _zeros(payload: Payload, metadata: pb.ModelMetadataResponse) -> bytes:
    """Returns a serialized answer that `payload` accepts."""
    outputs = {}
    for output in (each for each in metadata.outputs if each.name in payload.outputs):
        shape = [payload.rows if size == -1 else size for size in output.shape]
        outputs[output.name] = np.zeros(shape, DTYPES[output.datatype])
    return encode_response(metadata.name, payload.variant, outputs).SerializeToString()


@contextmanager
def null_server(answer: bytes, *flags: str) -> Iterator[str]:
    """Runs a null server that gives `answer`; yields its address."""
    command = [sys.executable, "-m", "loadtest.measure.null_server", *flags]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(answer)
            process.stdin.close()
            yield process.stdout.readline().decode().strip()
        finally:
            process.kill()
