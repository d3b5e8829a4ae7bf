"""MLServer 1.7.1 (Seldon) with ONNX Runtime: `mlserver_peer.py PORT MODEL.onnx NAME VERSION [--batch SECONDS]`.

Started as `mlserver start` does it (uvloop, REST, gRPC and metrics in one process), with a custom runtime written as
https://docs.seldon.ai/mlserver/user-guide/custom shows: `predict` decodes with the NumPy codec and calls the engine.
Set for throughput: `parallel_workers=0` (no hop to a worker process), `debug=False` (no log line for each request).
Metrics stay on, as ours do. Adaptive batching is off, as by default; `--batch SECONDS` turns it on with that
`max_batch_time` (https://docs.seldon.ai/mlserver/user-guide/adaptive-batching).
"""

import asyncio

import common
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.logging import configure_logger
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import install_uvloop_event_loop


class OnnxModel(MLModel):
    async def load(self) -> bool:
        self._engine = common.Engine(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        outputs = [NumpyCodec.encode_output(common.OUTPUT, self._engine(rows))]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)


async def main() -> None:
    flags = common.parser(__doc__)
    flags.add_argument("--batch", type=float, default=0.0, metavar="SECONDS", help="adaptive batching's max_batch_time")
    told = flags.parse_args()
    settings = Settings(
        debug=False, parallel_workers=0, host="127.0.0.1", grpc_port=told.port, http_port=common.free_port(),
        metrics_port=common.free_port(), load_models_at_startup=False,
    )  # fmt: skip
    batching = {"max_batch_size": common.MAX_BATCH, "max_batch_time": told.batch} if told.batch else {}
    parameters = ModelParameters(uri=told.model, version=told.version)
    model = ModelSettings(name=told.name, implementation=OnnxModel, parameters=parameters, **batching)
    await MLServer(settings).start([model])


if __name__ == "__main__":
    configure_logger()
    install_uvloop_event_loop()
    asyncio.run(main())
