"""grpc.health.v1 for the server, each model and each variant.

    ""  and  "inference.GRPCInferenceService"    SERVING while ServerReady
    "<model>"                                    as its default variant
    "<model>/<variant>"                          SERVING while READY or COLD; SERVICE_UNKNOWN once it has vanished

Source: https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckResponse

from protos.v1 import inference_pb2 as pb
from server.hosting.registry import Registry

SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


class Health:
    """Keeps the library's servicer in step with a registry."""

    def __init__(self) -> None:
        self.servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs lack it
        self._known: set[str] = set()

    async def publish(self, registry: Registry) -> None:
        """Sets the status of every service to what the registry says now."""
        variants = {hosted.label: hosted.available for hosted in registry.all()}
        models = {model: variants.get(f"{model}/{registry.default(model)}", False) for model in registry.models()}
        ready = {"": registry.ready, SERVICE: registry.ready, **models, **variants}
        for service, is_ready in ready.items():
            status = HealthCheckResponse.SERVING if is_ready else HealthCheckResponse.NOT_SERVING
            await self.servicer.set(service, status)
        for service in self._known - ready.keys():  # the library forgets none
            await self.servicer.set(service, HealthCheckResponse.SERVICE_UNKNOWN)
        self._known = set(ready)

    async def leave(self) -> None:
        """Makes everything NOT_SERVING from now on."""
        await self.servicer.enter_graceful_shutdown()
