"""What a master and its workers on other machines tell each other beyond Locust's own messages.

Each machine has a clock of its own: `perf_counter` counts from when it was started. A worker asks its master for the
time every second. The master's answer was made between the question and its receipt, so that the two clocks' distance
is known to half of that time (F. Cristian, Probabilistic clock synchronization, 1989); of the last ten exchanges the
shortest counts. A distance that may be none by that is none: processes of one machine share its clock.

At the end the master has each worker stop its users and send what it has not reported yet, and waits for it, where
Locust gives workers half a second. A worker that was there in the test and does not do so is lost.
"""

import logging
from collections import deque
from dataclasses import dataclass
from time import perf_counter

import gevent
from gevent.event import Event
from locust.env import Environment
from locust.rpc import Message
from locust.runners import STATE_MISSING, STATE_RUNNING, STATE_SPAWNING, MasterRunner, WorkerRunner

TIME, FINISH, FINISHED = "pareto_time", "pareto_finish", "pareto_finished"
"""Names of the messages: what time it is on the master, a worker's users shall stop, they have."""

ASK_SECONDS = 1.0
EXCHANGES = 10
"""How many of the last exchanges are compared: clocks drift, so that older ones say less."""

LAST_REPORT_SECONDS = 30.0
"""A worker has so long for its last report, beyond Locust's `--stop-timeout`."""

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Distance:
    """By how many seconds a worker's clock is ahead of its master's."""

    ahead: float
    error: float
    """How far off this may be at most."""


class Worker:
    """A worker's side: it knows the master's clock, and sends its last report when it is told to."""

    def __init__(self, environment: Environment, runner: WorkerRunner) -> None:
        self._environment, self._runner = environment, runner
        self._exchanges, self._answered = deque[Distance](maxlen=EXCHANGES), Event()
        runner.register_message(TIME, self._hear)
        runner.register_message(FINISH, self._finish, concurrent=True)
        runner.greenlet.spawn(self._ask)

    @property
    def distance(self) -> Distance | None:
        """Returns how far the clocks are apart, by the best of the last exchanges; None before the first answer."""
        best = min(self._exchanges, key=lambda each: each.error, default=None)
        return Distance(0.0, 0.0) if best and abs(best.ahead) <= best.error else best

    def _ask(self) -> None:
        while True:
            self._runner.send_message(TIME, {"asked": perf_counter()})
            gevent.sleep(ASK_SECONDS)

    def _hear(self, environment: Environment, msg: Message) -> None:
        asked, heard = msg.data["asked"], perf_counter()
        self._exchanges.append(Distance((asked + heard) / 2 - msg.data["time"], (heard - asked) / 2))
        self._answered.set()

    def _finish(self, environment: Environment, msg: Message) -> None:
        self._runner.stop()
        self._answered.wait()
        data = dict[str, object]()
        self._environment.events.report_to_master.fire(client_id=self._runner.client_id, data=data)  # type: ignore[no-untyped-call]
        self._runner.send_message(FINISHED, data)


class Master:
    """The master's side: it tells its time, and knows which workers were there to the end."""

    def __init__(self, environment: Environment, runner: MasterRunner) -> None:
        self._environment, self._runner = environment, runner
        self._heard, self._finished = dict[str, float](), set[str]()
        runner.register_message(TIME, self._tell)
        runner.register_message(FINISHED, self._take_last)
        events = environment.events
        events.test_start.add_listener(self._begin)  # type: ignore[no-untyped-call]
        events.worker_connect.add_listener(self._join)  # type: ignore[no-untyped-call]
        events.worker_report.add_listener(self._hear)  # type: ignore[no-untyped-call]
        events.test_stop.add_listener(self._end)  # type: ignore[no-untyped-call]

    def _tell(self, environment: Environment, msg: Message) -> None:
        self._runner.send_message(TIME, {**msg.data, "time": perf_counter()}, msg.node_id)

    def _begin(self, **_: object) -> None:
        self._heard, self._finished = dict.fromkeys(self._present(), perf_counter()), set()

    def _join(self, client_id: str) -> None:
        if self._runner.state in (STATE_SPAWNING, STATE_RUNNING):
            self._heard[client_id] = perf_counter()

    def _hear(self, client_id: str, data: object) -> None:
        if client_id in self._heard:
            self._heard[client_id] = perf_counter()

    def _take_last(self, environment: Environment, msg: Message) -> None:
        self._finished.add(msg.node_id)
        self._environment.events.worker_report.fire(client_id=msg.node_id, data=msg.data)  # type: ignore[no-untyped-call]

    def _present(self) -> set[str]:
        """Returns the workers whose heartbeats come."""
        return {each.id for each in self._runner.clients.all if each.state != STATE_MISSING}

    def _end(self, **_: object) -> None:
        """Waits for the last reports, and says which workers were lost."""
        ended = perf_counter()
        latest = ended + (self._environment.stop_timeout or 0.0) + LAST_REPORT_SECONDS
        for worker in self._heard:
            self._runner.send_message(FINISH, client_id=worker)
        while self._present() & self._heard.keys() - self._finished and perf_counter() < latest:
            gevent.sleep(POLL_SECONDS)
        for worker in self._heard.keys() - self._finished:
            self._environment.process_exit_code = 2
            seconds = ended - self._heard[worker]
            logging.error("worker %s was lost: its calls of the last %.1f s are missing", worker, seconds)
