"""KServe's Python model server 0.21.0 with ONNX Runtime: `kserve_peer.py PORT MODEL.onnx NAME VERSION`.

A custom predictor as https://kserve.github.io/website/ shows it (a `Model` whose `predict` runs in the event loop), in
one process: `workers=1`. Set for throughput: no latency log line for each request (`enable_latency_logging=False`),
nor the one that its gRPC interceptor writes (KSERVE_LOGLEVEL=WARNING). Its metrics cannot be turned off; ours are on.
It looks models up by name alone: any version is taken, and the response carries VERSION. It always listens on all
addresses; `PORT` is the gRPC port.
"""

import os

os.environ["KSERVE_LOGLEVEL"] = "WARNING"  # read when kserve is imported

import common
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer


class OnnxModel(Model):
    def __init__(self, name: str, version: str, path: str) -> None:
        super().__init__(name)
        self._version = version
        self._engine = common.Engine(path)
        self.ready = True

    def predict(self, payload: InferRequest, headers: dict[str, str] | None = None) -> InferResponse:
        logits = self._engine(payload.inputs[0].as_numpy())
        output = InferOutput(common.OUTPUT, list(logits.shape), "FP32")
        output.set_data_from_numpy(logits, binary_data=payload.use_binary_outputs)
        return InferResponse(payload.id, self.name, [output], model_version=self._version)


if __name__ == "__main__":
    told = common.parser(__doc__).parse_args()
    server = ModelServer(
        http_port=common.free_port(), grpc_port=told.port, workers=1, enable_latency_logging=False, grace_period=5
    )
    server.start([OnnxModel(told.name, told.version, told.model)])
