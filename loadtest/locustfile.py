"""Locust's part: ordinary `User`s that infer. Locust is imported here, and for a shape in `rampfile`.

By hand, with Locust's own web page and everything else that Locust can do:

    locust -f loadtest/locustfile.py --host 127.0.0.1:8001 --model digits --variants int8-openvino
    locust -f loadtest/locustfile.py --host 127.0.0.1:8001 --model digits --rate 50   # open loop, for each user

In several processes: `--processes 2` makes two workers beside the master, by hand they may be on other machines.
Flags go in any order. Ours (`$OURS`: `--model` to `--samples`, the same values) go to each process, Locust's own
(`$RUN`: `--headless -u 8 -t 30s --host HOST:PORT`) to the master:

    locust -f loadtest/locustfile.py $RUN $OURS --processes 2
    locust -f loadtest/locustfile.py $RUN $OURS --master --expect-workers 2
    locust -f loadtest/locustfile.py $OURS --worker --master-host MASTER   # and another

Only the master writes the file; the workers send their samples with each report. Users are shared out among workers,
so `--rate` stays what each user sends. A rate that rises while a test lasts: `loadtest/rampfile.py`.

`pareto-loadtest run` drives the same classes. For payloads of your own, subclass `InferenceUser` (closed loop) or
`PoissonUser` (open loop) in your own locustfile and give the class `payloads`. Each variant is one name in Locust's
statistics; those are in whole milliseconds, so `--samples FILE` keeps the raw ones.

Importing this file makes the process a Locust process: the standard library is patched by gevent, and grpcio
is told so. Hence it is imported before anything that opens sockets.
"""

from locust import User, constant, events, task  # patches the standard library, so before all else

# isort: split
import itertools
import logging
import random
from argparse import Namespace
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter, sleep, time
from typing import ClassVar

import gevent
import numpy as np
from gevent.event import Event
from gevent.pool import Group
from grpc.experimental.gevent import init_gevent  # type: ignore[import-not-found]
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.event import Events
from locust.exception import StopTest, StopUser
from locust.runners import WorkerRunner

from loadtest.client.oip import CallError, Client, StreamClient
from loadtest.client.payloads import Payload, make_inputs, make_payloads
from loadtest.client.survey import survey
from loadtest.plan import Transport
from loadtest.users.arrivals import gaps
from loadtest.users.recorder import FIRST_CALL, LATE, Recorder, Samples, merge
from loadtest.users.timer import Timer
from protos.errors import UsageError

init_gevent()

FAILURE_PAUSE_SECONDS = 0.1
"""A user's pause after a failed call, so that a server that is gone is not asked thousands of times a second."""

STOP_GRACE_SECONDS = 5.0
"""What users get beyond the deadline to end the call they are in."""

TICK_SECONDS = 0.01
"""How often it is looked how late the generator is."""

_NO_CONTEXT: dict[str, object] = {}


class OipUser(User):
    """A user with a connection and payloads, which it takes in turn."""

    abstract = True  # to be subclassed: what Locust runs by hand is `VariantUser`
    wait_time = constant(0)
    payloads: ClassVar[Sequence[Payload]] = ()
    deadline: ClassVar[float] = 10.0
    transport: ClassVar[Transport] = "unary"

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        if not self.payloads or not self.host:
            environment.process_exit_code = 2
            raise StopTest("nothing to send, or nowhere to send it: --host and --model are needed")
        connect = StreamClient if self.transport == "stream" else Client
        self.client = connect(self.host, self.deadline)  # a connection of this user's own
        self._next = itertools.cycle(random.sample(self.payloads, len(self.payloads))).__next__

    def on_start(self) -> None:
        """Opens the connection by a first call."""
        self.call(perf_counter(), FIRST_CALL)

    def on_stop(self) -> None:
        """Closes the connection."""
        self.client.close()

    def call(self, due: float, context: Mapping[str, object]) -> bool:
        """One call, reported to Locust with its latency from `due` on in milliseconds, unrounded; whether it was OK."""
        payload, failure = self._next(), None
        try:
            self.client.infer(payload)
        except CallError as error:
            failure = error
        self.environment.events.request.fire(
            request_type="ModelInfer",
            name=payload.name,
            response_time=(perf_counter() - due) * 1000,
            response_length=0,
            exception=failure,
            context=context,
        )
        return failure is None


class InferenceUser(OipUser):
    """A user that sends its next request as soon as the last was answered: a closed loop."""

    abstract = True

    @task
    def infer(self) -> None:
        """One call, and a pause where it failed."""
        if not self.call(perf_counter(), _NO_CONTEXT):
            sleep(FAILURE_PAUSE_SECONDS)


class PoissonUser(OipUser):
    """A user that sends its requests when they are due, whether or not earlier ones were answered: an open loop.

    What is late counts from when it was due, so that a server which stands still is not asked less for it. The
    requests of several users are independent: together they arrive like those of one user at the sum of the rates.
    """

    abstract = True
    rate: ClassVar[float] = 1.0
    """Arrivals in a second, of each user."""

    def on_start(self) -> None:
        super().on_start()
        self._calls, self._arrivals, self._timer = Group(), self.arrivals(), Timer()

    def on_stop(self) -> None:
        """Waits for the calls under way, which have a deadline, and closes the connection."""
        self._calls.join()
        self._timer.close()
        super().on_stop()

    def arrivals(self) -> Iterator[float]:
        """When requests are due, as times of `perf_counter`."""
        due = perf_counter()
        for gap in gaps(self.rate, np.random.default_rng()):
            due += gap
            yield due

    @task
    def infer(self) -> None:
        """Waits until the next request is due and sends it; the user ends with its arrivals."""
        if (due := next(self._arrivals, None)) is None:
            raise StopUser
        self._timer.wait_until(due)
        self._calls.spawn(self._call_late, due)

    def _call_late(self, due: float) -> None:
        self.call(due, {LATE: perf_counter() - due})


class VariantUser(InferenceUser):
    """Sends real inputs to the variants of `--model`, in random order."""


class ArrivalUser(PoissonUser):
    """The same in an open loop, at `--rate` arrivals in a second for each user; it is there instead with that flag."""

    abstract = True


class Swarm:
    """Users at work; `begin` starts what arrives at a rate."""

    def __init__(self, times: Sequence[float]) -> None:
        self.lags = array("d")
        """By how many seconds a timer of the load generator was late, sampled all the while."""
        self._times, self._turns, self._began = times, itertools.count(), Event()
        self._origin = 0.0

    def begin(self) -> float:
        """From now on the requests are due at the swarm's times; returns when that is, in `perf_counter`'s time."""
        self._origin = perf_counter()
        self._began.set()
        return self._origin

    def deal(self, users: int) -> Iterator[float]:
        """The arrivals of the next of `users` users, once they have begun."""
        turn = next(self._turns)
        self._began.wait()
        for after in self._times[turn::users]:
            yield self._origin + after

    def tick(self) -> None:
        """Watches the load generator's timers."""
        while True:
            due = perf_counter() + TICK_SECONDS
            sleep(TICK_SECONDS)
            self.lags.append(perf_counter() - due)


@contextmanager
def swarm(
    target: str,
    payloads: Sequence[Payload],
    users: int,
    deadline: float,
    listener: Callable[..., None],
    transport: Transport = "unary",
    times: Sequence[float] | None = None,
) -> Iterator[Swarm]:
    """Load from `users` users for as long as the block lasts: each as fast as it is answered, or all together at
    `times`, in seconds after `Swarm.begin`.

    At its end calls under way are waited for, unless it ends by an exception. `listener` is told of each call
    as Locust's `request` event tells it.
    """
    running = Swarm(times or ())
    body = {"payloads": payloads, "deadline": deadline, "transport": transport}
    if times is None:
        user = type("BlockUser", (InferenceUser,), body)
    else:
        user = type("BlockUser", (PoissonUser,), body | {"arrivals": lambda self: running.deal(users)})
    own = Events()  # type: ignore[no-untyped-call]  # the listeners below are for runs by hand
    own.request.add_listener(listener)  # type: ignore[no-untyped-call]
    environment = Environment(user_classes=[user], host=target, events=own, stop_timeout=deadline + STOP_GRACE_SECONDS)
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=users)
    ticking = gevent.spawn(running.tick)
    try:
        yield running
    except BaseException:
        environment.stop_timeout = 0.0
        raise
    finally:
        ticking.kill()
        runner.quit()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_flags(parser: LocustArgumentParser) -> None:
    group = parser.add_argument_group("ParetoServe")
    group.add_argument("--model", env_var="PARETO_MODEL", default="", help="model to load")
    group.add_argument("--variants", env_var="PARETO_VARIANTS", default="", help="separated by commas; else all")
    group.add_argument("--repository", env_var="PARETO_REPOSITORY", default="models", help="where golden inputs are")
    group.add_argument("--rate", env_var="PARETO_RATE", type=float, default=0.0, help="open loop: arrivals in a second")
    group.add_argument("--deadline", env_var="PARETO_DEADLINE", type=float, default=10.0, help="seconds for each call")
    group.add_argument("--samples", env_var="PARETO_SAMPLES", default="", help="file for the raw samples, .npz")


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Environment, **_: object) -> None:
    """Makes the payloads when a test starts by hand: only then is the host known."""
    options = environment.parsed_options
    if options is None or not options.model:
        return
    try:
        payloads = _payloads(environment.host or "", options)
    except UsageError as error:
        environment.process_exit_code = 2
        raise StopTest(str(error)) from None
    for user in (VariantUser, ArrivalUser):
        user.payloads, user.deadline = payloads, options.deadline


@events.init.add_listener  # type: ignore[untyped-decorator]
def _choose_loop(environment: Environment, **_: object) -> None:
    options = environment.parsed_options
    if options is not None and options.rate:
        ArrivalUser.rate = options.rate
        environment.user_classes = [ArrivalUser if user is VariantUser else user for user in environment.user_classes]


@events.init.add_listener  # type: ignore[untyped-decorator]
def _record(environment: Environment, **_: object) -> None:
    """Keeps raw samples by hand, if asked to: those of all workers in the master's file, in seconds since 1970.

    That is written on `quit`, for when `quitting` comes the workers have not yet sent their last report.
    """
    options = environment.parsed_options
    if options is None or not options.samples:
        return
    recorder, parts = Recorder(), list[Samples]()

    def take() -> Samples:
        taken = recorder.samples(perf_counter() - time(), (0.0, perf_counter()))
        recorder.clear()
        return taken

    def report(client_id: str, data: dict[str, object]) -> None:
        data["samples"] = take().to_bytes()

    def receive(client_id: str, data: dict[str, bytes]) -> None:
        if "samples" in data:
            parts.append(Samples.from_bytes(data["samples"]))
        else:
            environment.process_exit_code = 2
            logging.error("worker %s has no --samples: its calls will be missing in '%s'", client_id, options.samples)

    def save(**_: object) -> None:
        merge([*parts, take()]).save(Path(options.samples))

    environment.events.request.add_listener(recorder.on_request)  # type: ignore[no-untyped-call]
    if isinstance(environment.runner, WorkerRunner):
        environment.events.report_to_master.add_listener(report)  # type: ignore[no-untyped-call]
    else:
        environment.events.worker_report.add_listener(receive)  # type: ignore[no-untyped-call]
        environment.events.quit.add_listener(save)  # type: ignore[no-untyped-call]


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
