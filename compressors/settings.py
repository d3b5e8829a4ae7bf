"""What `pareto-compress` can be told: `protos.support.options` makes flags and help of these dataclasses."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from protos.errors import UsageError
from protos.manifest import RuntimeName, TaskName
from protos.support.options import ABOVE_ZERO, Rule, with_unit

MODELS = Path("models")
Number = TypeVar("Number", int, float)
Three = tuple[Number, Number, Number]


def _three(kind: Callable[[str], Number], metavar: str) -> Rule:
    """Returns the rule of a field that holds three numbers."""

    def convert(text: str) -> Three[Number]:
        first, second, third = map(kind, text.split(","))
        return first, second, third

    return {"convert": convert, "expected": f"three numbers as {metavar}", "metavar": metavar}


MILLISECONDS = with_unit("TIME", "a time such as 100us or 0.5ms", {"us": 1e-3, "ms": 1.0, "s": 1e3})
MINUTES = with_unit("TIME", "a time such as 5m or 90s", {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0})


@dataclass(frozen=True)
class BuildOptions:
    """What to build, from which data, and where to."""

    study: str | None = field(default=None, metadata={"metavar": "STUDY"})
    """a name in compressors/studies, or the path of a .toml file"""
    model: str | None = field(default=None, metadata={"metavar": "MODULE:FACTORY"})
    """your own PyTorch network: FP32 and int8 of it"""
    onnx: str | None = field(default=None, metadata={"metavar": "FILE"})
    """your own ONNX graph: FP32 and int8 of it"""
    repository: Path = MODELS
    """folder to publish the variants to"""
    budget: float | None = field(default=None, metadata=MINUTES)
    """how long the build may take, such as 5m: measuring keeps to it, training and export take what they take"""
    data: str | None = field(default=None, metadata={"metavar": "DATA"})
    """a folder with train/CLASS/ and test/CLASS/, an .npz, or MODULE:FUNCTION; with --task detection a folder in
    WIDER's layout or COCO's, or scenes"""


@dataclass(frozen=True)
class OwnModel:
    """What is to be known of a user's own model, whatever is done with it."""

    weights: str | None = field(default=None, metadata={"metavar": "FILE"})
    """the state dict of --model"""
    name: str | None = field(default=None, metadata={"metavar": "NAME"})
    """what it is called in the repository"""
    input_shape: Three[int] | None = field(default=None, metadata=_three(int, "3,H,W"))
    """shape of one image; without it, as the graph or the data have it"""
    mean: Three[float] | None = field(default=None, metadata=_three(float, "R,G,B"))
    """of pixels from 0 to 1; without it, 0,0,0"""
    std: Three[float] | None = field(default=None, metadata=_three(float, "R,G,B"))
    """of pixels from 0 to 1; without it, 1,1,1"""
    calibration: int | None = None
    """training images for int8 ranges; without it, 256 or as many as there are"""
    runtimes: tuple[RuntimeName, ...] = field(
        default=get_args(RuntimeName), metadata={"nargs": "+", "metavar": "RUNTIME"}
    )
    """runtimes to build for; those that cannot take the model are left out"""


@dataclass(frozen=True)
class UserModel(OwnModel):
    """What `build --model` and `build --onnx` need to know of a user's own model."""

    task: TaskName = "classification"
    """what it is for"""
    decoder: str | None = field(default=None, metadata={"metavar": "NAME"})
    """how a detector's outputs become boxes: scrfd, ultralytics, yolov5, boxes-scores, ... (docs/detection.md)"""
    keypoints: int | None = None
    """points of each box that a detector finds; without it, none"""
    iou_threshold: float | None = field(default=None, metadata={"metavar": "SHARE"})
    """overlap from which the box with the lower score goes; without it, 0.4"""
    max_drop: float | None = field(default=None, metadata={"metavar": "POINTS"})
    """an int8 more, accuracy-aware: layers go back to FP32 until it loses no more points (onnxruntime, openvino)"""


@dataclass(frozen=True)
class ShrinkOptions(OwnModel):
    """Whose place a student is to take, and what it has to keep."""

    model: str | None = field(default=None, metadata={"metavar": "MODULE:FACTORY"})
    """your own PyTorch classifier"""
    data: str | None = field(default=None, metadata={"metavar": "DATA"})
    """a folder with train/CLASS/ and test/CLASS/, an .npz, or MODULE:FUNCTION"""
    repository: Path = MODELS
    """folder to publish the variants to, your own model's and the student's"""
    latency: float | None = field(default=None, metadata=MILLISECONDS)
    """what one image may take, such as 100us, in place of --faster"""
    faster: float | None = field(default=None, metadata={**ABOVE_ZERO, "metavar": "TIMES"})
    """how many times faster than the fastest int8 of your own model; without --latency, 5"""
    max_drop: float = field(default=1.0, metadata={**ABOVE_ZERO, "metavar": "POINTS"})
    """points of accuracy that the student may be below your FP32"""
    budget: float = field(default=1800.0, metadata=MINUTES)
    """how long all of it may take"""

    def __post_init__(self) -> None:
        """Raises `UsageError` for two latencies."""
        if self.latency is not None and self.faster is not None:
            raise UsageError("--latency: got it with --faster, expected one of them")


@dataclass(frozen=True)
class RepositoryOptions:
    """Which repository is read."""

    repository: Path = MODELS
    """folder of built variants"""


@dataclass(frozen=True)
class PushOptions(RepositoryOptions):
    """How `push` sends a repository."""

    models: tuple[str, ...] = ()
    """models to send, separated by commas; without it all"""
    delete: bool = False
    """remove what is there of these models and not here"""


@dataclass(frozen=True)
class ListOptions(RepositoryOptions):
    """How `list` shows a repository."""

    format: Literal["table", "markdown", "csv"] = "table"
    """how to print it; csv has all columns"""
    wide: bool = False
    """all columns of the table, not only the first ones"""
    columns: tuple[str, ...] = field(default=(), metadata={"metavar": "NAME,..."})
    """the columns of the table, by the names that --format csv gives them, such as top1,p50_ms"""
    json: bool = False
    """print the manifests and the columns as one JSON document"""
    host: bool = False
    """the figures that `remeasure` took on this host, in place of the manifests'"""

    def __post_init__(self) -> None:
        """Raises `UsageError` for two forms, and for columns of one that always has all."""
        if self.json and self.format != "table":
            raise UsageError(f"--json: got it with --format {self.format}, expected one of them")
        if (self.json or self.format == "csv") and (self.columns or self.wide):
            raise UsageError("--columns, --wide: got one of them with --json or --format csv, which have all columns")


@dataclass(frozen=True)
class PlotOptions(RepositoryOptions):
    """Where `plot` writes its pages."""

    out: Path = Path("plots")
    """folder to write to"""
    speedups: tuple[float, ...] = field(default=(), metadata={"metavar": "TIMES,..."})
    """lines where latency is so many times below FP32's, as in the table, such as 29,55,100"""

    def __post_init__(self) -> None:
        """Raises `UsageError` for what no latency can be divided by."""
        if any(times <= 0 for times in self.speedups):
            raise UsageError(f"--speedups: got {min(self.speedups):g}, expected numbers above 0")
