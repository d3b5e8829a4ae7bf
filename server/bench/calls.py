"""Load of unary calls by h2load, whose CPU time for a call is small beside any server's.

It sends one request, the first, again and again; what an image shows makes no difference to what its answer costs. A
call is answered where HTTP and gRPC say so, and all messages have come in full but at most as many as were in flight at
the end. A round in which one failed tells no latencies: h2load's log does not say which call that was.
"""

import resource

import grpc

from protos.errors import UsageError
from protos.support import h2load
from server.bench.load import SETTLING, TIMEOUT, Load, Sample
from server.bench.targets import Target

METHOD = "/inference.GRPCInferenceService/ModelInfer"
STATUSES = {code.value[0]: code.name for code in grpc.StatusCode}


def drive(load: Load) -> Sample:
    """Puts `load` on a server and returns what came of it; meant for a process without other children."""
    connections = spread(load.in_flight, load.connections)
    url, streams, cpu = f"http://{load.address}", load.in_flight // connections, _childrens_cpu()
    run = h2load.run(url, load.payloads[0], connections, streams, load.seconds, TIMEOUT)
    cpu, count = _childrens_cpu() - cpu, run.log.start.size
    if not count:
        return Sample([], 0.0, 0, cpu, ["no call was answered"])
    if failures := _failures(run, load.answer_bytes):
        return Sample([], 0.0, count, cpu, failures)
    ended, settled = run.log.start + run.log.taken, run.log.start.min() + SETTLING * load.seconds * 1e6
    latencies = run.log.taken[ended >= settled]
    return Sample(latencies.astype(float).tolist(), (ended.max() - settled) / 1e6, count, cpu)


def answer_bytes(target: Target, request: bytes) -> int:
    """Returns the length of the message that answers a request; `UsageError` where the target does not answer it."""
    with grpc.insecure_channel(target.address) as channel:
        call = channel.unary_unary(METHOD, None, None)
        try:
            return len(call(request, timeout=TIMEOUT, wait_for_ready=True))
        except grpc.RpcError as error:
            raise UsageError(f"{target.name}: got {error.code().name}: {error.details()}, expected an answer") from None


def spread(in_flight: int, most: int) -> int:
    """Returns the connections, `most` of them, on each of which equally many of the calls in flight can be."""
    return max(n for n in range(1, min(in_flight, most) + 1) if in_flight % n == 0)


def _failures(run: h2load.Run, answer_bytes: int) -> list[str]:
    """What each call that failed ended with."""
    by_grpc = [STATUSES.get(status, f"status {status}") for status, _ in run.failures]
    by_http = ["broken stream" if code < 0 else f"HTTP {code}" for code in run.log.status[run.log.status != 200]]
    failures = by_grpc + by_http
    whole = run.body_bytes // len(h2load.framed(bytes(answer_bytes)))
    return failures + ["no message"] * (run.log.status.size - len(failures) - whole)


def _childrens_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
