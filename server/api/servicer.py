"""The Open Inference Protocol's calls: each asks the registry, or `Inference` for an answer.

Errors are raised as domain errors; `server.api.edge` makes statuses of them.
"""

from collections.abc import Awaitable

from protos.manifest import TensorSpec
from protos.support import program
from protos.tasks.table import TASKS
from protos.v1 import inference_pb2 as pb
from server.api import model_config
from server.api.inference import Inference
from server.api.repository_api import RepositoryServicer
from server.api.stream import Context, Streams
from server.hosting.registry import Registry
from server.hosting.sync import RepositorySync
from server.observability.request_record import RequestRecord
from server.settings import Settings

EXTENSIONS = ("classification", "model_configuration", "statistics", "streaming")
"""The extensions that work, by Triton's names; `streaming`, which Triton does not list, is ModelStreamInfer."""
CONTROL = "model_repository"
"""The extension that works where repository control is allowed. RepositoryIndex answers without it."""


class Servicer(RepositoryServicer):
    """Answers for the variants of `registry`."""

    def __init__(
        self, registry: Registry, sync: RepositorySync, inference: Inference, streams: Streams, settings: Settings
    ) -> None:
        super().__init__(registry, sync, settings.allow_repository_control)
        self._inference, self._streams, self._settings = inference, streams, settings
        control, native = settings.allow_repository_control, settings.front == "native"
        self._extensions = [*EXTENSIONS, *[CONTROL] * control, *[program.NATIVE_FRONT] * native]

    async def ServerLive(self, request: pb.ServerLiveRequest, context: object) -> pb.ServerLiveResponse:
        """Says that the process answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: object) -> pb.ServerReadyResponse:
        """Says whether something can be served."""
        return pb.ServerReadyResponse(ready=self._registry.ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: object) -> pb.ModelReadyResponse:
        """Says whether a variant can be asked."""
        return pb.ModelReadyResponse(ready=self._registry.find(request.name, request.version).available)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: object) -> pb.ServerMetadataResponse:
        """Names the server and the extensions that it has."""
        return pb.ServerMetadataResponse(name=program.NAME, version=program.version(), extensions=self._extensions)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: object) -> pb.ModelMetadataResponse:
        """Describes inputs, outputs and variants of a model."""
        hosted = self._registry.find(request.name, request.version)
        response = pb.ModelMetadataResponse(name=request.name, versions=self._registry.of(request.name))
        if (variant := hosted.described) is not None:
            response.platform = variant.runtime
            response.inputs.extend(map(_tensor_metadata, variant.inputs))
            response.outputs.extend(map(_tensor_metadata, TASKS[variant.task].outputs(variant)))
        return response

    def ModelInfer(  # type: ignore[override]  # the edge passes a record in the place of the context, and ends it
        self, request: pb.ModelInferRequest, record: RequestRecord
    ) -> Awaitable[pb.ModelInferResponse]:
        """Answers one request."""
        return self._inference.complete(self._inference.check(request, record))

    async def ModelStreamInfer(self, request_iterator: object, context: Context) -> None:  # type: ignore[override]
        """Answers many requests on one stream, by id."""
        await self._streams.serve(context)

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: object) -> pb.ModelConfigResponse:
        """Describes a variant as Triton does."""
        hosted = self._registry.find(request.name, request.version)
        return pb.ModelConfigResponse(config=model_config.describe(hosted, self._registry.plan, self._settings))

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest, context: object) -> pb.ModelStatisticsResponse:
        """What this process has counted: of several workers each answers for itself; the metrics page is for all."""
        chosen = self._registry.choose(request.name, request.version)
        stats = [hosted.metrics.statistics.message(hosted.entry.model, hosted.entry.name) for hosted in chosen]
        return pb.ModelStatisticsResponse(model_stats=stats)


def _tensor_metadata(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)
