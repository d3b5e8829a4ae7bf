"""Locust users that infer, and the swarm of them that measures one block.

Import this module before anything that opens sockets: gevent patches the standard library, and grpcio is told so.
"""

from locust import User, constant, task  # patches the standard library, so before all else

# isort: split
import itertools
import random
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter, sleep
from typing import ClassVar

import gevent
import numpy as np
from gevent.event import Event
from gevent.hub import Hub
from gevent.pool import Group
from grpc.experimental.gevent import init_gevent  # type: ignore[import-not-found]
from locust.env import Environment
from locust.event import Events
from locust.exception import StopTest, StopUser

from loadtest.client.credentials import PLAIN, Credentials
from loadtest.client.oip import CallError, Client, StreamClient
from loadtest.client.payloads import Payload
from loadtest.plan import Transport, is_address
from loadtest.users.arrivals import gaps
from loadtest.users.recorder import FIRST_CALL, LATE
from loadtest.users.timer import Timer

init_gevent()
Hub.NOT_ERROR += (StopTest,)  # Locust logs its message, no traceback is needed

FAILURE_PAUSE_SECONDS = 0.1
"""A user pauses after a failed call, so that a server that is gone is not called thousands of times a second."""

STOP_GRACE_SECONDS = 5.0
"""Users have this long beyond the deadline to end the call they are in."""

TICK_SECONDS = 0.01


class OipUser(User):
    """A user that sends its payloads in turn over a connection of its own."""

    abstract = True
    wait_time = constant(0)
    payloads: ClassVar[Sequence[Payload]] = ()
    deadline: ClassVar[float] = 10.0
    transport: ClassVar[Transport] = "unary"
    credentials: ClassVar[Credentials] = PLAIN

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        if not self.payloads or not self.host or not is_address(self.host):
            environment.process_exit_code = 2
            raise StopTest("nothing to send, or nowhere to send it: --host HOST:PORT and `payloads` are needed")
        kind = StreamClient if self.transport == "stream" else Client
        self.client = kind(self.host, self.deadline, self.credentials)
        self._next = itertools.cycle(random.sample(self.payloads, len(self.payloads))).__next__

    def on_start(self) -> None:
        """Opens the connection by a first call."""
        self.call(perf_counter(), FIRST_CALL)

    def on_stop(self) -> None:
        """Closes the connection."""
        self.client.close()

    def call(self, due: float, context: Mapping[str, object]) -> bool:
        """Makes one call, tells Locust of it, and returns whether it succeeded. Its latency counts from `due`."""
        payload, answer, failure = self._next(), None, None
        try:
            answer = self.client.infer(payload)
        except CallError as error:
            failure = error
        self.environment.events.request.fire(
            request_type="ModelInfer",
            name=payload.name,
            response_time=(perf_counter() - due) * 1000,
            response_length=answer.ByteSize() if answer else 0,  # after the clock was read
            exception=failure,
            context=context,
        )
        return failure is None


class InferenceUser(OipUser):
    """A user that sends its next request as soon as it has the last answer: a closed loop."""

    abstract = True

    @task
    def infer(self) -> None:
        """Makes one call, and pauses if it failed."""
        if not self.call(perf_counter(), {}):
            sleep(FAILURE_PAUSE_SECONDS)


class PoissonUser(OipUser):
    """A user that sends its requests when they are due, whether or not earlier ones were answered: an open loop.

    A latency counts from when the request was due. Users are independent: together their requests arrive like those of
    one user at the sum of the rates.
    """

    abstract = True
    rate: ClassVar[float] = 1.0
    """Arrivals per second of each user."""

    def on_start(self) -> None:
        """Opens the connection and plans the arrivals."""
        super().on_start()
        self._calls, self._arrivals, self._timer = Group(), self.arrivals(), Timer()

    def on_stop(self) -> None:
        """Waits for the calls under way, which have a deadline, and closes the connection."""
        self._calls.join()
        self._timer.close()
        super().on_stop()

    def arrivals(self) -> Iterator[float]:
        """Yields when requests are due, as times of `perf_counter`."""
        due = perf_counter()
        for gap in gaps(self.rate, np.random.default_rng()):
            due += gap
            yield due

    @task
    def infer(self) -> None:
        """Waits until the next request is due and sends it. The user ends after its last arrival."""
        if (due := next(self._arrivals, None)) is None:
            raise StopUser
        self._timer.wait_until(due)
        self._calls.spawn(lambda: self.call(due, {LATE: perf_counter() - due}))


class Swarm:
    """A block's users at work."""

    def __init__(self, times: Sequence[float]) -> None:
        self.lags = array("d")
        """How many seconds late the load generator's timers were, sampled every `TICK_SECONDS`."""
        self._times, self._users, self._began, self._origin = times, itertools.count(), Event(), 0.0

    def begin(self) -> float:
        """Starts the arrivals, if there are any, and returns the time of `perf_counter` from which they count."""
        self._origin = perf_counter()
        self._began.set()
        return self._origin

    def arrivals(self, users: int) -> Iterator[float]:
        """Waits for `begin`, then yields the arrivals of the next of `users` users: every `users`-th one."""
        first = next(self._users)
        self._began.wait()
        for after in self._times[first::users]:
            yield self._origin + after


def tick(lags: "array[float]") -> None:
    """Appends how many seconds late a timer was, every `TICK_SECONDS` until it is killed."""
    while True:
        due = perf_counter() + TICK_SECONDS
        sleep(TICK_SECONDS)
        lags.append(perf_counter() - due)


@contextmanager
def swarm(
    target: str,
    payloads: Sequence[Payload],
    users: int,
    deadline: float,
    listener: Callable[..., None],
    transport: Transport = "unary",
    times: Sequence[float] | None = None,
    credentials: Credentials = PLAIN,
) -> Iterator[Swarm]:
    """Runs `users` users inside the `with` block: each as fast as it gets answers, or all together at `times`.

    `times` are seconds after `Swarm.begin`. `listener` gets each call as Locust's `request` event. At the end calls
    under way are waited for, unless the `with` block ends by an exception.
    """
    running, kind = Swarm(times or ()), InferenceUser if times is None else PoissonUser
    body = {"payloads": payloads, "deadline": deadline, "transport": transport, "credentials": credentials}
    user = type("BlockUser", (kind,), body | {"arrivals": lambda self: running.arrivals(users)})
    own = Events()  # type: ignore[no-untyped-call]  # the process's own events are for runs by hand
    own.request.add_listener(listener)  # type: ignore[no-untyped-call]
    environment = Environment(user_classes=[user], host=target, events=own, stop_timeout=deadline + STOP_GRACE_SECONDS)
    runner = environment.create_local_runner()
    runner.start(users, spawn_rate=users)
    ticking = gevent.spawn(tick, running.lags)
    try:
        yield running
    except BaseException:
        environment.stop_timeout = 0.0
        raise
    finally:
        ticking.kill()
        runner.quit()
