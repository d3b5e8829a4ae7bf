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
from compressors.progress import say
from compressors.recipes import recipes
from compressors.recipes.recipes import StepContext
from compressors.recipes.steps import FoldInput
from compressors.study import Study
from protos import repository
from protos.manifest import RuntimeName, TensorSpec, Variant
from server import runtimes

CALIBRATION = 32
"""Images for the ranges of random weights."""
SECONDS = 1.0
"""A network's share of the time."""
QUICK: tuple[RuntimeName, ...] = ("onnxruntime", "openvino", "torchscript", "pytorch")
"""Runtimes by how long an export takes, the shortest first."""


class RandomWeights:
    """Times networks of `study`'s data beside `beat`, one of the variants that `own` has published."""

    def __init__(self, study: Study, data: Dataset, root: Path, beat: Variant) -> None:
        self._study, self._data, self._beat = study, data, beat
        self._runtime = next(name for name in QUICK if name in study.runtimes)
        self._folder = root / study.model / beat.variant
        few = data.calibration.take(np.arange(min(CALIBRATION, len(data.calibration))))
        self._pixels = np.ascontiguousarray(few.as_sent())

    def p50_ms(self, network: str) -> float:
        """Returns the p50 of one image, as it would have been where the p50 of `beat` was taken."""
        with TemporaryDirectory() as folder:
            made = self._export(network, Path(folder))
            with (
                closing(self._load(self._folder, self._beat)) as beat,
                closing(self._load(Path(folder), made)) as student,
            ):
                given = {"beat": self._inputs[self._beat], "student": self._pixels[:1]}
                seconds = latency.latencies({"beat": beat, "student": student}, given, 0, SECONDS)
        times = float(np.median(seconds["student"]) / np.median(seconds["beat"]))
        assert self._beat.latency is not None
        p50_ms = times * self._beat.latency.p50_ms
        say(f"{network}: {p50_ms:.3f} ms, with random weights in {self._runtime}")
        return p50_ms

    def _export(self, network: str, folder: Path) -> Variant:
        """Lowers a network with random weights to `folder`; returns its manifest, as far as an adapter needs it."""
        made = zoo.create(network, len(self._data.labels), self._study.seed).eval()
        folded = recipes.apply(FoldInput(), StepContext(network, self._data, self._study.seed, made, Path()))
        pixels = torch.from_numpy(self._pixels)
        job = Job(folded, pixels[:2], StaticInt8(), pixels, folder)
        exported = exporters.export(EXPORTERS[self._runtime], job)
        return replace(
            self._beat,
            runtime=self._runtime,
            precision="int8",
            entry=exported.entry,
            inputs=(TensorSpec(INPUT, "UINT8", (-1, *self._pixels.shape[1:])),),
            files=repository.describe_files(folder),
            max_batch=None,
        )
