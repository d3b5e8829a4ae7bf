"""Variant: what a built variant is and what was measured of it; `manifest.json` both ways.

Every number in a manifest was measured. What was not measured is absent (None here, no key in the JSON), never zero.
Reading is strict, so that a manifest of another schema is never half-understood.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from protos.errors import ManifestError
from protos.support.machine import Machine
from protos.support.strict import decode

SCHEMA = 2
PACKED = ".xz"
"""What the name of a file that is stored compressed ends in."""

RuntimeName = Literal["pytorch", "torchscript", "onnxruntime", "openvino"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
TaskName = Literal["classification", "detection"]
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: its OIP datatype, and its shape with -1 for the batch."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One thing done to the weights, with the full parameters it was done with."""

    name: str
    parameters: dict[str, Json]


@dataclass(frozen=True)
class Recipe:
    """A named chain of steps; `fp32` has the training as its only step."""

    name: str
    steps: tuple[Step, ...]


MOST_PIXELS = 32_000_000
"""Pixels of an image that is taken, where nothing else is said."""


@dataclass(frozen=True)
class Preprocessing:
    """How an RGB image becomes the input tensor: resize to (height, width), scale to 0..1, (x - mean) / std."""

    resize: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layout: Literal["NCHW", "NHWC"]
    """NHWC: the pixels are the input as they are, UINT8; what is scaled and normalized, the network does itself."""
    fit: Literal["stretch", "letterbox"] = "stretch"
    """`letterbox` keeps the ratio of the sides: the image lies at the top left, the rest is black."""


@dataclass(frozen=True)
class Decoding:
    """How the outputs of a network become boxes, and which of them an answer holds unless a request says otherwise."""

    decoder: str
    """A key of `protos.tasks.decoders.DECODERS`."""
    score_threshold: float = 0.5
    """Least score of a box."""
    iou_threshold: float = 0.4
    """Of two boxes of one class that overlap by more than this, the one with the lower score is left out."""
    max_detections: int = 100
    """The most boxes of one image."""
    keypoints: int = 0
    """Points of each box."""


@dataclass(frozen=True)
class File:
    """One file of the artifact; `path` is relative to the variant's folder, with forward slashes."""

    path: str
    sha256: str
    bytes: int
    unpacked_bytes: int | None = None
    """For a file that is stored compressed with xz: the size of what is loaded."""

    @property
    def loaded_as(self) -> str:
        """The file's path when it is loaded, without the suffix of a compressed file."""
        return self.path if self.unpacked_bytes is None else self.path.removesuffix(PACKED)


@dataclass(frozen=True)
class Network:
    """Size of the network that the runtime was given, before the runtime's own int8 conversion."""

    parameters: int
    nonzero_parameters: int
    macs: int | None = None
    """Multiply-accumulates of one row, convolutions and linear layers."""


@dataclass(frozen=True)
class Quality:
    """The task's metric on a data set, measured with the adapter that serves the variant."""

    metric: str
    value: float
    dataset: str
    samples: int
    parent: float
    """The same metric of the network before its last compression, run as FP32 PyTorch."""
    fp32: float | None = field(default=None, kw_only=True)
    """The same metric of the FP32 network; None where a graph was given as int8, and nobody has its FP32."""
    agreement: float
    """Share of what was predicted that is also FP32's, or that of the graph as it was given."""
    lost: int | None = None
    """Samples, or objects in them, that `fp32-pytorch` gets right and this variant gets wrong."""
    gained: int | None = None
    """Samples, or objects in them, that this variant gets right and `fp32-pytorch` gets wrong."""
    others: dict[str, float] | None = None
    """Further metrics of the task, by name."""
    interval: tuple[float, float] | None = field(default=None, kw_only=True)
    """The 95% interval of the metric; None, as the next, in a manifest from before it was taken."""
    drop_interval: tuple[float, float] | None = None
    """The 95% interval of how far the metric is below that of `fp32-pytorch`."""


@dataclass(frozen=True)
class Latency:
    """In-process latency of the adapter: no server, no queue, no serialization."""

    p50_ms: float
    p95_ms: float | None = field(default=None, kw_only=True)
    """None, as the next, with fewer samples than it takes."""
    p99_ms: float | None = field(default=None, kw_only=True)
    batch: int
    threads: int
    samples: int
    known_within: float | None = None
    """Half the 95% interval of the p50 beside the p50, from its own samples; None with too few of them."""


@dataclass(frozen=True)
class Throughput:
    """In-process rows per second at the batch size that gives the most of them."""

    rows_per_second: float
    batch: int
    threads: int


@dataclass(frozen=True)
class Footprint:
    """What the artifact takes beyond its size on disk."""

    gzip_bytes: int
    """Its files after gzip, one by one."""
    load_peak_bytes: int
    """The most resident memory that loading it and answering once added to a fresh process of its runtime."""


@dataclass(frozen=True)
class Golden:
    """What the outputs on `golden.npz` are allowed to differ from those of FP32, the largest element counting."""

    measured_error: float
    tolerance: float
    own: bool = False
    """Whether its golden set lies in its own folder, since its network or what it takes is not the model's."""


@dataclass(frozen=True)
class Sources:
    """What the variant was made from; the hashes are sha256."""

    study: str
    parent_weights: str
    seed: int
    calibration: str | None = None


@dataclass(frozen=True)
class Variant:
    """One recipe in one runtime of one model, and everything that was measured of it."""

    model: str
    variant: str
    recipe: Recipe
    runtime: RuntimeName
    precision: Precision
    entry: str
    """The file that the runtime opens, as it is loaded; `files` has it as it is stored."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    files: tuple[File, ...]
    golden: Golden | None = field(default=None, kw_only=True)
    """None until it is measured; every published variant has one."""
    machine: Machine
    """Where it was built and measured."""
    sources: Sources
    network: Network
    quality: Quality | None = None
    latency: Latency | None = None
    throughput: Throughput | None = None
    footprint: Footprint | None = None
    published: str | None = None
    """What the source that the study stands beside reports of the same, in its own words."""
    notes: tuple[str, ...] = ()
    """What a reader of these numbers must know, such as layers that went back to floating point."""
    requires: tuple[str, ...] = ()
    """Instruction sets of which a CPU must have one, or its answers are wrong; () where AVX2 is enough."""
    max_batch: int | None = None
    """The most rows of one execution; requests are then not joined to batches. None where the batch is free."""
    task: TaskName = "classification"
    decoding: Decoding | None = None
    """None for a task whose outputs are its answers."""
    schema: int = SCHEMA

    @property
    def files_sha256(self) -> str:
        """The sha256 over those of the files: two variants share it only if all their files are the same."""
        return hashlib.sha256("".join(file.sha256 for file in self.files).encode()).hexdigest()

    @property
    def joins_requests(self) -> bool:
        """Whether a server may execute several requests together: the batch, and nothing else, is free."""
        free = all(spec.shape[:1] == (-1,) and -1 not in spec.shape[1:] for spec in self.inputs)
        return free and self.max_batch is None

    @property
    def artifact_bytes(self) -> int:
        """Size on disk of the files that the runtime loads."""
        return sum(file.bytes for file in self.files)


def to_json(variant: Variant) -> str:
    """Returns the text of `manifest.json`: two-space indent, keys in the order of the dataclasses, no absent values."""
    known = asdict(variant, dict_factory=lambda pairs: {name: value for name, value in pairs if value is not None})
    return json.dumps(known, indent=2) + "\n"


def from_json(text: str) -> Variant:
    """Reads a manifest's text; `ManifestError` names what does not fit and where."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # the latter of brackets without end
        raise ManifestError(f"manifest is not JSON: {error}") from None
    if (schema := data.get("schema") if isinstance(data, dict) else None) != SCHEMA:
        raise ManifestError(f"manifest has schema {schema!r}, expected {SCHEMA}")
    try:
        variant = decode(Variant, data, "manifest")
    except ValueError as error:
        raise ManifestError(str(error)) from None
    if variant.entry not in {file.loaded_as for file in variant.files}:
        raise ManifestError(f"manifest.entry: '{variant.entry}' is not among its files")
    return variant
