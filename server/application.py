"""What answers the calls of one process: built of the settings, without a port. `server.lifecycle` gives it one."""

import sys

from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from protos.v1.inference_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from server.api.edge import Edge
from server.api.health import SERVICE, Health
from server.api.images import Images
from server.api.inference import Inference
from server.api.servicer import Servicer
from server.api.stream import Streams
from server.execution.threads import make_plan
from server.hosting.registry import Registry
from server.hosting.residency import Residency
from server.hosting.sync import RepositorySync
from server.observability.exporters import Exporters
from server.observability.instruments import Instruments
from server.observability.metrics import Metrics
from server.settings import Settings
from server.tasks.answer_threads import AnswerThreads
from server.tasks.table import served

SWITCH_SECONDS = 0.0005
"""How soon a busy event loop lets an engine's thread on, which has its answers and needs the interpreter to hand them
out. With Python's own 5 ms, cores idle meanwhile: 10% fewer answers per second at 32 in flight (docs/bench.md)."""


class Application:
    """Registry, engines and services, on `cores` cores; `edge` has a handler for every method.

    Built inside a running event loop; `UsageError` where the settings cannot be carried out.
    """

    def __init__(self, settings: Settings, instruments: Instruments, cores: int) -> None:
        self._settings = settings
        self.plan = make_plan(settings.threads, cores, settings.workers)
        self.metrics = Metrics(instruments)
        self.health = Health()
        self.registry = Registry(settings, self.plan, self.metrics, self.health.publish)
        self.edge = Edge(self.metrics.handled)
        self.images = Images(self.plan.slots, settings.queue_size, settings.max_image_pixels)
        self.exporters = Exporters(settings)
        self.answers = AnswerThreads(self.plan.slots, settings.queue_size)
        self._sync = RepositorySync(self.registry)
        self._residency = Residency(self.registry, settings)
        warm, active = self._residency.warm, self.exporters.active
        tasks = served(self.answers)
        self.inference = Inference(self.registry, settings.max_rows, self.images, tasks, warm, active)
        self._streams = Streams(self.inference, settings.stream_requests)
        self._add_services()

    async def load(self) -> None:
        """Returns when all variants are READY, FAILED or COLD; from then on follows the repository under `--watch`."""
        sys.setswitchinterval(SWITCH_SECONDS)
        await self._sync.start()
        if self._settings.watch:
            self._sync.watch(self._settings.watch)

    def loaded(self) -> tuple[int, int, int]:
        """Returns how many variants are READY, how many FAILED and how many COLD."""
        states = [hosted.state for hosted in self.registry.all()]
        return states.count("READY"), states.count("FAILED"), states.count("COLD")

    async def leave(self) -> None:
        """Makes health and ServerReady say no; calls are answered as before."""
        self.registry.draining = True
        await self.health.leave()

    def end_streams(self) -> None:
        """Ends the streams that have no end of their own, and has the others read no more."""
        self.edge.end_streams()
        self._streams.close()

    async def close(self) -> None:
        """Executes what is queued, as far as the time for draining allows, and gives everything back."""
        await self._sync.close()
        await self._residency.close()
        await self.registry.close()
        self.images.close()
        self.answers.close()
        await self.exporters.close()

    def _add_services(self) -> None:
        edge = self.edge  # takes the services in a server's place
        servicer = Servicer(self.registry, self._sync, self.inference, self._streams, self._settings)
        add_GRPCInferenceServiceServicer_to_server(servicer, edge)  # type: ignore[arg-type]
        health_pb2_grpc.add_HealthServicer_to_server(self.health.servicer, edge)
        names = (SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME)
        reflected = reflection.aio.ReflectionServicer(names)  # type: ignore[attr-defined]
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, edge)
