"""The manifest of an artifact of the small network, before anything of it was measured."""

from pathlib import Path

from compressors.export.lowerings import FLOAT32, Lowering
from compressors.networks.layers import INPUT, OUTPUT
from protos.manifest import Network, Preprocessing, Recipe, RuntimeName, Sources, Step, TensorSpec, Variant
from protos.repository import describe_files
from protos.support import machine


def described(folder: Path, runtime: RuntimeName, entry: str, lowering: Lowering = FLOAT32) -> Variant:
    """Describes the artifact in `folder`; the runtime opens its file `entry`."""
    return Variant(
        model="small",
        variant=f"lowered-{runtime}",
        recipe=Recipe("lowered", (Step("train", {}),)),
        runtime=runtime,
        precision=lowering.precision,
        entry=entry,
        inputs=(TensorSpec(INPUT, "FP32", (-1, 3, 8, 8)),),
        outputs=(TensorSpec(OUTPUT, "FP32", (-1, 3)),),
        preprocessing=Preprocessing((8, 8), (0.4,) * 3, (0.25,) * 3, "NCHW"),
        labels=("red", "green", "blue"),
        files=describe_files(folder),
        machine=machine.describe(),
        sources=Sources("", "", 0),
        network=Network(1, 1, 1),
    )
