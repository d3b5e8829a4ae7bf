"""Locust's part: an ordinary `User` that calls ModelInfer. Locust is imported here and nowhere else.

By hand, with Locust's own web page and everything else that Locust can do:

    locust -f loadtest/locustfile.py --host 127.0.0.1:8001 --model digits --variants int8-openvino

`pareto-loadtest run` drives the same class. For payloads of your own, subclass `InferenceUser` in your own
locustfile and give the class `payloads`. Each variant is one name in Locust's statistics; those are in
whole milliseconds, so `--samples FILE` keeps the raw ones.

Importing this file makes the process a Locust process: the standard library is patched by gevent, and grpcio
is told so. Hence it is imported before anything that opens sockets.
"""

from locust import User, constant, events, task  # patches the standard library, so before all else

# isort: split
import itertools
import logging
import random
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep
from typing import ClassVar

from grpc.experimental.gevent import init_gevent  # type: ignore[import-not-found]
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.event import Events
from locust.exception import StopTest

from loadtest.client import CallError, Client
from loadtest.payloads import Payload, make_inputs, make_payloads
from loadtest.recorder import FIRST_CALL, Recorder
from loadtest.survey import survey
from protos.errors import UsageError

init_gevent()

FAILURE_PAUSE_SECONDS = 0.1
"""A user's pause after a failed call, so that a server that is gone is not asked thousands of times a second."""

STOP_GRACE_SECONDS = 5.0
"""What users get beyond the deadline to end the call they are in."""

_NO_CONTEXT: dict[str, bool] = {}


class InferenceUser(User):
    """A user that sends its payloads in turn, the next one as soon as the last was answered."""

    abstract = True  # to be subclassed: what Locust runs by hand is `VariantUser`
    wait_time = constant(0)
    payloads: ClassVar[Sequence[Payload]] = ()
    deadline: ClassVar[float] = 10.0

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        if not self.payloads or not self.host:
            environment.process_exit_code = 2
            raise StopTest("nothing to send, or nowhere to send it: --host and --model are needed")
        self.client = Client(self.host, self.deadline)  # a connection of this user's own
        self._next = itertools.cycle(random.sample(self.payloads, len(self.payloads))).__next__
        self._context = FIRST_CALL

    def on_stop(self) -> None:
        """Closes the connection."""
        self.client.close()

    @task
    def infer(self) -> None:
        """One call, reported to Locust with its latency in milliseconds, unrounded."""
        payload, failure = self._next(), None
        started = perf_counter()
        try:
            self.client.infer(payload)
        except CallError as error:
            failure = error
        latency = perf_counter() - started
        self.environment.events.request.fire(
            request_type="ModelInfer",
            name=payload.variant,
            response_time=latency * 1000,
            response_length=0,
            exception=failure,
            context=self._context,
        )
        self._context = _NO_CONTEXT
        if failure:
            sleep(FAILURE_PAUSE_SECONDS)


class VariantUser(InferenceUser):
    """Sends real inputs to the variants of `--model`, in random order."""


@contextmanager
def swarm(
    target: str, payloads: Sequence[Payload], users: int, deadline: float, listener: Callable[..., None]
) -> Iterator[None]:
    """Load from `users` users for as long as the block lasts.

    At its end calls under way are waited for, unless it ends by an exception. `listener` is told of each call
    as Locust's `request` event tells it.
    """
    user = type("BlockUser", (InferenceUser,), {"payloads": payloads, "deadline": deadline})
    own = Events()  # type: ignore[no-untyped-call]  # the listeners below are for runs by hand
    own.request.add_listener(listener)  # type: ignore[no-untyped-call]
    environment = Environment(user_classes=[user], host=target, events=own, stop_timeout=deadline + STOP_GRACE_SECONDS)
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=users)
    try:
        yield
    except BaseException:
        environment.stop_timeout = 0.0
        raise
    finally:
        runner.quit()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_flags(parser: LocustArgumentParser) -> None:
    group = parser.add_argument_group("ParetoServe")
    group.add_argument("--model", env_var="PARETO_MODEL", default="", help="model to load")
    group.add_argument("--variants", env_var="PARETO_VARIANTS", default="", help="separated by commas; else all")
    group.add_argument("--repository", env_var="PARETO_REPOSITORY", default="models", help="where golden inputs are")
    group.add_argument("--deadline", env_var="PARETO_DEADLINE", type=float, default=10.0, help="seconds for each call")
    group.add_argument("--samples", env_var="PARETO_SAMPLES", default="", help="file for the raw samples, .npz")


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Environment, **_: object) -> None:
    """Makes the payloads when a test starts by hand: only then is the host known."""
    options = environment.parsed_options
    if options is None or not options.model:
        return
    try:
        VariantUser.payloads = _payloads(environment.host or "", options)
        VariantUser.deadline = options.deadline
    except UsageError as error:
        environment.process_exit_code = 2
        raise StopTest(str(error)) from None


@events.init.add_listener  # type: ignore[untyped-decorator]
def _record(environment: Environment, **_: object) -> None:
    """Keeps raw samples by hand, if asked to."""
    options = environment.parsed_options
    if options is None or not options.samples:
        return
    recorder, origin = Recorder(), perf_counter()
    environment.events.request.add_listener(recorder.on_request)  # type: ignore[no-untyped-call]

    def save(**_: object) -> None:
        recorder.samples(origin, (origin, perf_counter())).save(Path(options.samples))

    environment.events.quitting.add_listener(save)  # type: ignore[no-untyped-call]


def _payloads(host: str, options: Namespace) -> list[Payload]:
    client = Client(host, options.deadline)
    try:
        found = survey(client, options.model, tuple(filter(None, options.variants.split(","))))
    finally:
        client.close()
    for variant, reason in found.skipped.items():
        logging.warning("variant %s is left out: %s", variant, reason)
    payloads = []
    for variant, metadata in found.ready.items():
        inputs = make_inputs(options.model, metadata, Path(options.repository), seed=0)
        payloads += make_payloads(options.model, variant, metadata, inputs)
    return payloads
