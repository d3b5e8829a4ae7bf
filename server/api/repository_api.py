"""The protocol's repository extension: the index, and load and unload where they are allowed.

There is one repository, and its name is empty. Triton's parameters that bring a configuration or an artifact
with the request are refused: what is served comes from the repository and from nowhere else.
Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_model_repository.md
"""

from collections.abc import Iterable

from protos.errors import ControlError, InvalidInputError
from protos.v1 import inference_pb2 as pb
from server.hosting.registry import Hosted, Registry
from server.hosting.sync import Control

HARMLESS = "unload_dependents"
"""The one parameter that is taken, by unload: no model depends on another here."""

_STATES = {"FAILED": "UNAVAILABLE", "UNLOADED": "UNAVAILABLE"}
"""Our states that Triton does not have."""


class RepositoryCalls:
    """Answers for `registry`; changes go through `control`, if `allowed`."""

    def __init__(self, registry: Registry, control: Control, allowed: bool) -> None:
        self._registry, self._control, self._allowed = registry, control, allowed

    def index(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """Every variant that is hosted, was unloaded or is broken; or those that are READY."""
        _check_repository(request.repository_name)
        rows = [hosted for hosted in self._registry.all() if hosted.state == "READY" or not request.ready]
        return pb.RepositoryIndexResponse(models=map(_row, rows))

    async def load(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Returns when the model is loaded; raises what `Control.load` raises."""
        self._check(request.repository_name, request.parameters)
        await self._control.load(request.model_name)
        return pb.RepositoryModelLoadResponse()

    async def unload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """Returns when the last accepted request has been executed and the engines are gone."""
        self._check(request.repository_name, set(request.parameters) - {HARMLESS})
        await self._control.unload(request.model_name)
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
    reason = "unloaded" if hosted.state == "UNLOADED" else hosted.reason
    if reason and hosted.state == "READY":
        reason = f"a newer publication is not served: {reason}"
    state = _STATES.get(hosted.state, hosted.state)
    return pb.RepositoryIndexResponse.ModelIndex(
        name=hosted.entry.model, version=hosted.entry.name, state=state, reason=reason
    )
