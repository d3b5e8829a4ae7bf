"""The deployment with the slow engine of `tests.server.stress.slow`, which few calls fill."""

from typing import Any

from ray import serve

from deploy.ray.app import Replica, read_settings
from server.runtimes.onnxruntime import OnnxGraph
from server.settings import Settings
from tests.server.stress import slow


class SlowReplica(Replica):
    """A replica whose ONNX runtime first sleeps."""

    async def __init__(self, settings: Settings) -> None:
        OnnxGraph.infer = slow.infer
        await super().__init__(settings)


def build(given: dict[str, Any]) -> serve.Application:
    """Returns the application under its deployment's own name."""
    return serve.deployment(SlowReplica, name="Replica").bind(read_settings(given))
