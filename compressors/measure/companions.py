"""How far the rows beside it move an answer: int8 that finds its ranges in each call finds them for a whole batch.

Bounded by `BOUND`; a variant that goes beyond it is published with batches of one row, and says so.
"""

import numpy as np

from protos import preprocessing
from protos.manifest import Variant
from protos.repository import GoldenSet
from server.runtimes import Array, Runtime, in_batches

BOUND = 0.05
"""The share of what FP32's answers to different inputs differ by, by which companions may move an answer."""


def effect(runtime: Runtime, variant: Variant, golden: GoldenSet) -> float:
    """Returns how far others move a golden answer at most, as a share of the most that FP32's golden answers differ by.

    The others are the other golden inputs and as many images of black and bright pixels, the loudest there can be. Of
    several outputs, the one that is moved most counts.
    """
    ((name, inputs),) = golden.inputs.items()
    pixels = np.random.default_rng(0).choice(
        np.array([0, 255], np.uint8), (len(inputs), *variant.preprocessing.resize, 3)
    )
    loud = preprocessing.normalise(pixels, variant.preprocessing)
    alone = in_batches(runtime.infer, golden.inputs, 1)
    among = runtime.infer({name: np.concatenate([inputs, loud])})
    return max(_share_moved(alone[n], among[n][: len(inputs)], fp32) for n, fp32 in golden.outputs.items())


def _share_moved(alone: Array, among: Array, fp32: Array) -> float:
    differ = float(np.ptp(fp32, axis=0).max())  # between inputs, not between classes
    return float(np.abs(alone - among).max() / max(differ, np.finfo(np.float32).tiny))
