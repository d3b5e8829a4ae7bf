"""The protocol's repository extension: the index, and load and unload where they are allowed.

There is one repository, and its name is empty. Triton's parameters that bring a configuration or an artifact
with the request are refused: what is served comes from the repository and from nowhere else.
Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from collections.abc import Iterable

from protos.errors import ControlError, InvalidInputError
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceServicer
from server.hosting.hosted import Hosted
from server.hosting.registry import Registry
from server.hosting.sync import RepositorySync

HARMLESS = "unload_dependents"
"""The one parameter that is taken, by unload: no model depends on another here."""

_STATES = {"FAILED": "UNAVAILABLE", "UNLOADED": "UNAVAILABLE", "COLD": "READY"}
"""Our states that Triton does not have."""


class RepositoryServicer(GRPCInferenceServiceServicer):
    """The extension's calls for `registry`; changes go through `sync`, where they are `allowed`."""

    def __init__(self, registry: Registry, sync: RepositorySync, allowed: bool) -> None:
        self._registry, self._sync, self._allowed = registry, sync, allowed

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: object) -> pb.RepositoryIndexResponse:
        """Lists every variant that is hosted, was unloaded or is broken; or those that can be asked."""
        _check_repository(request.repository_name)
        rows = [hosted for hosted in self._registry.all() if hosted.available or not request.ready]
        return pb.RepositoryIndexResponse(models=map(_row, rows))

    async def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: object
    ) -> pb.RepositoryModelLoadResponse:
        """Returns when the model is loaded; raises what `RepositorySync.load` raises."""
        self._check(request.repository_name, request.parameters)
        await self._sync.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: object
    ) -> pb.RepositoryModelUnloadResponse:
        """Returns when the last accepted request has been executed and the engines are gone."""
        self._check(request.repository_name, set(request.parameters) - {HARMLESS})
        await self._sync.unload(request.model_name)
        return pb.RepositoryModelUnloadResponse()

    def _check(self, repository: str, parameters: Iterable[str]) -> None:
        if not self._allowed:
            raise ControlError("loading and unloading are not allowed by this server's settings")
        _check_repository(repository)
        if refused := sorted(parameters):
            raise InvalidInputError(f"got parameter '{refused[0]}', which is unsupported")


def _check_repository(name: str) -> None:
    if name:
        raise InvalidInputError(f"got repository '{name}', expected none: there is one, and its name is empty")


def _row(hosted: Hosted) -> pb.RepositoryIndexResponse.ModelIndex:
    reason = hosted.reason
    if hosted.state == "UNLOADED":
        reason = "unloaded"
    elif hosted.state == "COLD":
        reason = f"cold: {reason or 'a request has it loaded'}"
    elif reason and hosted.state == "READY":
        reason = f"a newer publication is not served: {reason}"
    state = _STATES.get(hosted.state, hosted.state)
    return pb.RepositoryIndexResponse.ModelIndex(
        name=hosted.entry.model, version=hosted.entry.name, state=state, reason=reason
    )
