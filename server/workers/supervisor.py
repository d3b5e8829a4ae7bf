"""The life of a server of several workers: reserve the port, start them, serve their metrics as one page, drain.

The supervisor answers no request and imports no heavy library, so that hardly anything can end it; each
worker is a whole server of its own (`server.workers.worker`). The kernel deals connections out to them, not calls,
and by a hash of the addresses, not in turn: 8 connections to 2 workers went 4:4 18 times, 5:3 16 times, 6:2
18 times and 7:1 8 times (grpc.aio workers, 60 tries). A client with one connection is served by one worker.
What a worker keeps, such as ModelStatistics, concerns that worker alone.
"""

import asyncio
import logging
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

from protos import telemetry
from protos.support.machine import available_cores
from server.execution.threads import Plan, make_plan
from server.observability import logs
from server.observability.instruments import make
from server.observability.metrics_page import Page, join
from server.settings import Settings
from server.signals import stop_signals
from server.workers.aggregate import Reading, merge, of_worker
from server.workers.ports import reserved
from server.workers.respawn import SupervisedWorker

READING_SECONDS = 2.0
"""How long the page waits for a worker; for one that is too busy it shows the last reading."""

STAGGER_SECONDS = 0.25
"""Time between the drains of two workers. When a worker closes, its clients turn to the next, and gRPC cancels calls
that reach a server in the moment in which it stops (`server.lifecycle.SETTLE_SECONDS`): let it stop later."""

REASONS = ("exit", "SIGKILL", "SIGSEGV", "SIGABRT")
"""Reasons of a restart that the page shows from the start, with a count of 0."""

logger = logging.getLogger(__name__)


async def supervise(settings: Settings, flags: Sequence[str]) -> None:
    """Serves with workers until SIGTERM or SIGINT, then drains; a second signal ends all. `flags` made the settings."""
    plan = make_plan(settings.threads, available_cores(), settings.workers)
    with reserved(settings.host, settings.port) as port:
        pool = WorkerPool(settings.workers, port, flags)
        page = Page(settings.host, settings.metrics_port, pool.instruments)
        announced = _announce(pool, plan, settings.front, join(settings.host, port), page.address)
        announcing = asyncio.create_task(announced)
        try:
            with stop_signals(pool.kill) as stop:
                await pool.run(stop)
        finally:
            announcing.cancel()
            await page.close()
    logger.info("stopped")


class WorkerPool:
    """All workers; `instruments` is their metrics as one page, to be read from another thread."""

    def __init__(self, workers: int, port: int, flags: Sequence[str]) -> None:
        self._loop = asyncio.get_running_loop()
        self._own = CollectorRegistry(support_collectors_without_names=True)
        ProcessCollector(registry=self._own)
        restarts = make(self._own, Counter, telemetry.WORKER_RESTARTS)
        for reason in REASONS:
            restarts.labels(reason)
        self.workers = [
            SupervisedWorker(n, port, flags, lambda reason: restarts.labels(reason).inc()) for n in range(workers)
        ]
        listening = make(self._own, Gauge, telemetry.WORKERS)
        listening.set_function(lambda: sum(worker.progress.listening.is_set() for worker in self.workers))
        self.instruments = CollectorRegistry(support_collectors_without_names=True)
        self.instruments.register(self)

    async def run(self, stop: asyncio.Event) -> None:
        """Keeps all workers alive; once `stop` is set they drain, and this ends with the last of them."""
        lives = [asyncio.create_task(worker.run()) for worker in self.workers]
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({stopping, *lives}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                for worker in self.workers:
                    worker.drain()
                    await asyncio.sleep(STAGGER_SECONDS)
            await asyncio.gather(*lives)
        finally:
            for task in (stopping, *lives):  # those that are left where one has failed
                task.cancel()
            await asyncio.gather(stopping, *lives, return_exceptions=True)

    def kill(self) -> None:
        """Ends all workers at once."""
        for worker in self.workers:
            worker.kill()

    def collect(self) -> Reading:
        """Returns the metrics of all workers. prometheus_client calls it in the thread of a scrape."""
        return asyncio.run_coroutine_threadsafe(self._read(), self._loop).result()

    async def _read(self) -> Reading:
        readings = await asyncio.gather(*(worker.read(READING_SECONDS) for worker in self.workers))
        return merge([of_worker(list(self._own.collect()), "supervisor"), *readings])


async def _announce(pool: WorkerPool, plan: Plan, front: str, grpc: str, metrics: str) -> None:
    """Says once that all workers listen, and once that all have loaded."""
    progress = [worker.progress for worker in pool.workers]
    await asyncio.gather(*(each.listening.wait() for each in progress))
    logs.log_serving(plan, front, grpc, metrics)
    await asyncio.gather(*(each.loaded.wait() for each in progress))
    ready, failed, cold = zip(*(each.states for each in progress), strict=True)
    logs.log_loaded(min(ready), max(failed), max(cold))
