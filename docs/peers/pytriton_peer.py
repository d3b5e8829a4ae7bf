"""PyTriton 0.7.0 (NVIDIA; Triton's own binary is in its wheel): `pytriton_peer.py PORT MODEL.onnx NAME VERSION`.

Triton speaks gRPC and batches (C++), its Python backend's stub passes batches on, and this process executes them.
As https://triton-inference-server.github.io/pytriton/latest/binding_models/ shows it: one callable under `@batch`, and
the dynamic batcher with its defaults, which takes what waits and delays nothing, up to our own --batch-max.
Triton takes integer versions only: VERSION has to be one, and clients have to send it (or none). The stub loads
libpython by name: LD_LIBRARY_PATH makes that this interpreter's (its installation page), not the system's other 3.11.
"""

import os
import signal
import sysconfig

import common
import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def main() -> None:
    told = common.parser(__doc__).parse_args()
    engine = common.Engine(told.model)
    os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")  # the child processes'

    @batch
    def infer(**inputs: np.ndarray) -> dict[str, np.ndarray]:
        return {common.OUTPUT: engine(inputs[common.INPUT])}

    addresses = dict.fromkeys(("grpc_address", "http_address", "metrics_address"), "127.0.0.1")
    ports = {"grpc_port": told.port, "http_port": common.free_port(), "metrics_port": common.free_port()}
    config = TritonConfig(**addresses, **ports)
    with Triton(config=config) as triton:
        triton.bind(
            model_name=told.name,
            model_version=int(told.version),
            infer_func=infer,
            inputs=[Tensor(name=common.INPUT, dtype=np.float32, shape=(3, 32, 32))],
            outputs=[Tensor(name=common.OUTPUT, dtype=np.float32, shape=(10,))],
            config=ModelConfig(max_batch_size=common.MAX_BATCH, batcher=DynamicBatcher()),
        )
        triton.serve()  # until SIGINT


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job comes with it ignored
    main()
