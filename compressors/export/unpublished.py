"""The manifest of an artifact that is only to be timed, and never published."""

import torch

from compressors.export.exporters import Job
from compressors.networks.layers import INPUT
from protos.manifest import Network, Preprocessing, Recipe, RuntimeName, Sources, TensorSpec, Variant
from protos.support import machine


def unpublished(job: Job, runtime: RuntimeName, entry: str) -> Variant:
    """Returns what an adapter has to know of the artifact of `job`, whose file `entry` the runtime opens."""
    takes_pixels = job.example.dtype == torch.uint8
    return Variant(
        model="",
        variant="",
        recipe=Recipe("", ()),
        runtime=runtime,
        precision=job.lowering.precision,
        entry=entry,
        inputs=(TensorSpec(INPUT, "UINT8" if takes_pixels else "FP32", (-1, *job.example.shape[1:])),),
        outputs=tuple(TensorSpec(name, "FP32", (-1,)) for name in job.outputs),
        preprocessing=Preprocessing((0, 0), (), (), "NHWC" if takes_pixels else "NCHW"),
        labels=(),
        files=(),
        machine=machine.describe(),
        sources=Sources("", "", 0),
        network=Network(0, 0),
        max_batch=getattr(job.network, "max_batch", None),
    )
