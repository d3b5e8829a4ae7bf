"""What the peers' scripts share: their command line, free ports, and the ONNX Runtime session that all serve.

The session is that of our own adapter (server/runtimes/onnxruntime.py): one intra-op and one inter-op thread that do
not spin, the CPU provider, inputs and outputs by name.
"""

import argparse
import socket

import numpy as np
import onnxruntime

INPUT, OUTPUT = "input", "logits"
MAX_BATCH = 16
"""Rows of one execution where a server batches: our --batch-max."""


def parser(description: str | None) -> argparse.ArgumentParser:
    """The command line of every peer: PORT MODEL.onnx NAME VERSION."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("port", type=int, help="the port for gRPC")
    made.add_argument("model", help="the .onnx file")
    made.add_argument("name", help="the model's name in requests")
    made.add_argument("version", help="the model's version in requests")
    return made


class Engine:
    """The session, called with a batch of rows."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self._session.run([OUTPUT], {INPUT: rows})[0]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
