"""h2load as a second load generator beside the own one: what it can send of a plan, and the pace that it saw.

How it is started, and how a failed gRPC call is found in what it prints, is in `protos.support.h2load`; the server's
own counter has a say, too (`second_opinion`). It does not check the server's certificate; the run did, right before.
"""

import shutil

from loadtest.client.failures import plain
from loadtest.generator.opinion import Pace
from loadtest.plan import Plan
from protos.errors import ParetoServeError
from protos.support import h2load, significance
from protos.support.h2load import Log

WARMUP_SECONDS = 0.2


class NoOpinionError(ParetoServeError):
    """There is no second opinion; the text is the reason."""


def check_plan(plan: Plan) -> None:
    """Raises `NoOpinionError` where h2load is not installed or cannot send what the plan sends."""
    if shutil.which(h2load.PROGRAM) is None:
        raise NoOpinionError(h2load.MISSING)
    if plan.transport == "stream":
        raise NoOpinionError("it sends calls, not what ModelStreamInfer wants")
    if plan.tls_client_cert:
        raise NoOpinionError("it has no certificate to show")
    if plan.token_file:
        raise NoOpinionError("it takes a token only as an argument, which everyone on its machine can read")


def run(plan: Plan, address: str, request: bytes, users: int, seconds: float) -> Log:
    """Has `users` clients send a serialized request, each again as soon as it has the answer, after a warm-up.

    Raises `NoOpinionError` where h2load fails, or any call does as far as its answer says.
    """
    scheme = "https" if plan.tls or plan.tls_ca else "http"
    try:
        ended = h2load.run(f"{scheme}://{address}", request, users, 1, WARMUP_SECONDS + seconds, plan.deadline)
    except TimeoutError as error:
        raise NoOpinionError(str(error)) from None
    if ended.failures:
        status, text = ended.failures[0]
        raise NoOpinionError(f"its calls failed (gRPC status {status}: {plain(text or 'no details')})")
    good, count = int((ended.log.status == 200).sum()), ended.log.status.size
    if ended.exit_code or not count or good < count:
        raise NoOpinionError(f"{good} of its {count} calls were answered, exit code {ended.exit_code}")
    return ended.log


def pace(calls: Log, seconds: float) -> Pace:
    """Returns answers per second after the warm-up, and the p50 of the calls that began then."""
    begun = calls.start.min() + WARMUP_SECONDS * 1e6
    ended, close = calls.start + calls.taken, begun + seconds * 1e6
    answered = ((ended >= begun) & (ended < close)).sum()
    steady = calls.taken[(calls.start >= begun) & (calls.start < close)]
    return Pace(float(answered / seconds), significance.quantile(steady / 1e3, 0.5))
