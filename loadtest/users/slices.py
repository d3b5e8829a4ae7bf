"""Users that rest: their connections stay open, and they work when it is their variant's turn, for a short slice.

    with standing_users(hosts, payloads, users, ...) as standing:
        standing.take("int8-openvino", ClosedTurn(users=8, rows=1, seconds=0.1))   # returns when all rest again

A slice has three parts. First each user makes a call to warm caches that other variants have filled; the steady part
begins when all have, and lasts `seconds` or `LEAST` calls of each user; then the others' last steady calls are waited
for, under the same load. So no steady call meets a server that is emptier than it should be.
"""

from loadtest.users.users import OipUser, tick  # before all else: see there

# isort: split
import itertools
import random
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import perf_counter, sleep
from typing import ClassVar, Protocol

import gevent
from gevent.event import Event
from gevent.pool import Group
from gevent.queue import SimpleQueue
from locust import User, task
from locust.env import Environment
from locust.event import Events
from locust.exception import StopUser

from loadtest.client.credentials import PLAIN, Credentials
from loadtest.client.payloads import Payload
from loadtest.interrupt import NOTICE_SECONDS, Sleep
from loadtest.plan import Transport
from loadtest.users.recorder import AFTER_CALL, FIRST_CALL, LATE, PHASE, STEADY, STEADY_CALL, WARMUP_CALL
from loadtest.users.timer import Timer
from loadtest.users.users import FAILURE_PAUSE_SECONDS, STOP_GRACE_SECONDS

LEAST = 3
"""Steady calls that each user of a closed loop makes in a slice, however long they take."""

LEAD_SECONDS = 0.001
"""Between the last warm-up answer and the time from which an open loop's arrivals count."""


class Turn(Protocol):
    """What the users of one variant do in one slice."""

    users: int
    rows: int
    seconds: float
    """Of steady state: as asked before the slice, as it was after it."""
    answered: int
    """Successful answers to steady calls."""

    def work(self, user: "StandingUser") -> None:
        """Makes one user's calls."""


class _Barrier:
    """Lets users go on when all have come."""

    def __init__(self, users: int) -> None:
        self._missing, self._all = users, Event()

    def come(self) -> bool:
        """Counts one user; returns whether it was the last."""
        self._missing -= 1
        if not self._missing:
            self._all.set()
        return not self._missing

    @property
    def open(self) -> bool:
        """Whether all have come."""
        return not self._missing

    def wait(self) -> None:
        """Returns when all have come."""
        self._all.wait()


class ClosedTurn:
    """Each user sends its next request when it has the last answer."""

    def __init__(self, users: int, rows: int, seconds: float) -> None:
        self.users, self.rows, self.seconds, self.answered = users, rows, seconds, 0
        self._warm, self._finished, self._end, self._busy = _Barrier(users), _Barrier(users), 0.0, 0.0

    def work(self, user: "StandingUser") -> None:
        """Makes one user's calls."""
        user.open(WARMUP_CALL)
        if self._warm.come():
            self._end = perf_counter() + self.seconds
        while not self._warm.open:
            user.call_now(WARMUP_CALL)
        begun, calls, answered = perf_counter(), 0, 0
        while perf_counter() < self._end or calls < LEAST:
            answered += user.call_now(STEADY_CALL)
            calls += 1
        self._busy += perf_counter() - begun
        self.answered += answered
        if self._finished.come():
            self.seconds = self._busy / self.users
        while not self._finished.open:
            user.call_now(AFTER_CALL)


class OpenTurn:
    """Requests are sent when they are due, at `times` after the steady part's beginning, answered or not."""

    def __init__(self, users: int, rows: int, seconds: float, times: Sequence[float]) -> None:
        self.users, self.rows, self.seconds, self.answered = users, rows, seconds, 0
        self._times, self._warm, self._origin, self._places = times, _Barrier(users), 0.0, itertools.count()

    def work(self, user: "StandingUser") -> None:
        """Makes one user's calls: every `users`-th one."""
        user.open(WARMUP_CALL)
        if self._warm.come():
            self._origin = perf_counter() + LEAD_SECONDS
        self._warm.wait()
        calls, place = Group(), next(self._places)
        for after in self._times[place :: self.users]:
            due = self._origin + after
            user.timer.wait_until(due)
            calls.spawn(self._send, user, due)
        calls.join()

    def _send(self, user: "StandingUser", due: float) -> None:
        succeeded = user.call(due, {PHASE: STEADY, LATE: perf_counter() - due})
        self.answered += succeeded  # after the call: others are answered meanwhile


class StandingUser(OipUser):
    """A user that waits for its turns."""

    abstract = True
    members: ClassVar[list["StandingUser"]]
    """All users of the variant."""
    by_rows: ClassVar[Mapping[int, Sequence[Payload]]]

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.turns = SimpleQueue[tuple[Turn, Callable[[BaseException | None], None]] | None]()
        self.timer = Timer()
        self._shuffled = {rows: itertools.cycle(random.sample(all_, len(all_))) for rows, all_ in self.by_rows.items()}
        self._is_open = False
        self.members.append(self)

    def on_start(self) -> None:
        """Does nothing: the first turn opens the connection."""

    def on_stop(self) -> None:
        """Gives the timer back and closes the connection."""
        self.timer.close()
        super().on_stop()

    def open(self, context: Mapping[str, object]) -> None:
        """Makes a turn's first call; the very first one opens the connection."""
        self.call_now(context if self._is_open else FIRST_CALL)
        self._is_open = True

    def call_now(self, context: Mapping[str, object]) -> bool:
        """Makes one call that is due now, pauses if it failed, and returns whether it succeeded."""
        succeeded = self.call(perf_counter(), context)
        if not succeeded:
            sleep(FAILURE_PAUSE_SECONDS)
        return succeeded

    @task
    def take_turn(self) -> None:
        """Waits for the next turn and works."""
        given = self.turns.get()
        if given is None:
            raise StopUser
        turn, done = given
        self._next = self._shuffled[turn.rows].__next__
        try:
            turn.work(self)
        except BaseException as error:
            done(error)
            raise
        done(None)


class StandingUsers:
    """The users of all variants, and the timers' lags."""

    def __init__(self, members: Mapping[str, list[StandingUser]], sleep: Sleep) -> None:
        self._members, self._sleep = members, sleep
        self.lags = array("d")
        """How many seconds late the load generator's timers were, sampled all the time."""

    def take(self, variant: str, turn: Turn) -> None:
        """Lets the first `turn.users` users of a variant work; returns when they rest again."""
        working, faults, rest = turn.users, list[BaseException](), Event()

        def done(error: BaseException | None) -> None:
            nonlocal working
            working -= 1
            if error is not None:
                faults.append(error)
            if error is not None or not working:
                rest.set()

        for user in self._members[variant][: turn.users]:
            user.turns.put((turn, done))
        while not rest.wait(NOTICE_SECONDS):
            self._sleep(0)
        if faults:
            raise faults[0]


@contextmanager
def standing_users(
    hosts: Mapping[str, str],
    payloads: Mapping[str, Mapping[int, Sequence[Payload]]],
    users: int,
    listener: Callable[..., None],
    sleep: Sleep,
    *,
    deadline: float,
    transport: Transport = "unary",
    credentials: Credentials = PLAIN,
) -> Iterator[StandingUsers]:
    """Keeps `users` users for each variant of `hosts` (HOST:PORT) while the `with` block runs.

    `payloads` are by variant and rows of a request. `listener` gets each call as Locust's `request` event.
    """
    members = {variant: list[StandingUser]() for variant in hosts}
    shared = {"deadline": deadline, "transport": transport, "credentials": credentials, "fixed_count": users}
    kinds: list[type[User]] = [
        _kind(host, payloads[variant], members[variant], shared) for variant, host in hosts.items()
    ]
    own = Events()  # type: ignore[no-untyped-call]  # the process's own events are for runs by hand
    own.request.add_listener(listener)  # type: ignore[no-untyped-call]
    environment = Environment(user_classes=kinds, events=own, stop_timeout=deadline + STOP_GRACE_SECONDS)
    runner = environment.create_local_runner()
    runner.start(users * len(hosts), spawn_rate=users * len(hosts))
    assert runner.spawning_greenlet
    runner.spawning_greenlet.join()
    standing = StandingUsers(members, sleep)
    ticking = gevent.spawn(tick, standing.lags)
    try:
        yield standing
    except BaseException:
        environment.stop_timeout = 0.0
        raise
    finally:
        ticking.kill()
        for user in itertools.chain.from_iterable(members.values()):
            user.turns.put(None)
        runner.quit()


def _kind(
    host: str, by_rows: Mapping[int, Sequence[Payload]], members: list[StandingUser], shared: Mapping[str, object]
) -> type[StandingUser]:
    """Returns the class of a variant's users; they are called alike, so Locust would mix them up without a number."""
    first = next(iter(by_rows.values()))
    name = f"StandingUser{next(_NUMBERS)}"
    body = {"host": host, "payloads": first, "by_rows": by_rows, "members": members, **shared}
    return type(name, (StandingUser,), body)


_NUMBERS = itertools.count()
