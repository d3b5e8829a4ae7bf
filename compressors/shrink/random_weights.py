"""The latency of a network before it is trained: kernels take as long with random weights.

It is lowered as a student will be, pixels in and int8, in the quickest of the runtimes to export to, and timed in turns
with the variant that it is to beat: what else the machine does slows both.
"""

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from compressors.data.datasets import Dataset
from compressors.export import exporters
from compressors.export.exporters import EXPORTERS, Job
from compressors.export.lowerings import StaticInt8
from compressors.measure import latency
from compressors.networks import zoo
from compressors.networks.layers import INPUT
from compressors.networks.pixels import fold_input
from compressors.progress import say
from compressors.shrink import students
from compressors.study import Study
from protos import repository
from protos.manifest import RuntimeName, Variant
from protos.preprocessing import input_spec
from server import runtimes

CALIBRATION = 32
"""Images for the ranges of random weights."""
INT8 = StaticInt8(float_layers=("network.0",))
"""int8 but for the first convolution, which takes three channels and is mostly slower in it."""
SECONDS = 1.0
"""A network's share of the time."""
QUICK: tuple[RuntimeName, ...] = ("onnxruntime", "openvino", "torchscript", "pytorch")
"""Runtimes by how long an export takes, the shortest first."""


class RandomWeights:
    """Times networks beside `beat`, a variant of `study`'s model that the repository `root` holds."""

    def __init__(self, study: Study, data: Dataset, root: Path, beat: Variant) -> None:
        self._study, self._beat = study, beat
        self._runtime = next(name for name in QUICK if name in study.runtimes)
        self._folder = root / study.model / beat.variant
        few = data.calibration.take(np.arange(min(CALIBRATION, len(data.calibration))))
        self._learnt = students.INPUT.applied(data.preprocessing)
        self._preprocessing = replace(self._learnt, layout="NHWC")
        self._pixels = np.ascontiguousarray(few.as_sent())
        self._inputs = {"beat": {INPUT: data.inputs(few)[:1]}, "student": {INPUT: self._pixels[:1]}}

    def p50_ms(self, network: str) -> float:
        """Returns the p50 of one image, as it would have been where the p50 of `beat` was taken."""
        assert self._beat.latency is not None
        with TemporaryDirectory() as name, closing(runtimes.load(self._folder, self._beat, latency.THREADS)) as beat:
            folder = Path(name) / "artifact"
            variant = self._export(network, folder)
            with closing(runtimes.load(folder, variant, latency.THREADS)) as student:
                seconds = latency.latencies({"beat": beat, "student": student}, self._inputs, 0, SECONDS)
        times = float(np.median(seconds["student"]) / np.median(seconds["beat"]))
        p50_ms = times * self._beat.latency.p50_ms
        say(f"{network}: {p50_ms:.3f} ms, with random weights in {self._runtime}")
        return p50_ms

    def _export(self, network: str, folder: Path) -> Variant:
        """Lowers a network with random weights to `folder`; returns its manifest, as far as an adapter needs it."""
        made = zoo.create(network, len(self._beat.labels), self._study.seed).eval()
        pixels = torch.from_numpy(self._pixels)
        example = pixels[np.arange(2) % len(pixels)]
        job = Job(fold_input(made, self._learnt), example, INT8, pixels, folder)
        exported = exporters.export(EXPORTERS[self._runtime], job)
        return replace(
            self._beat,
            runtime=self._runtime,
            precision=INT8.precision,
            entry=exported.entry,
            inputs=(input_spec(INPUT, self._preprocessing),),
            preprocessing=self._preprocessing,
            files=repository.describe_files(folder),
            max_batch=None,
        )
