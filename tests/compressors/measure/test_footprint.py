"""Footprints: what gzip makes of the files, and the memory that loading adds to a process that has loaded nothing."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from compressors.measure.footprint import MemoryProbe, gzip_bytes
from protos import repository
from tests.support import toy


def test_gzip_bytes_are_those_that_gzip_writes(tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(0, 9, 3_000_000, dtype=np.uint8).tobytes()
    (tmp_path / "weights").write_bytes(content)
    assert gzip_bytes(tmp_path / "weights") == len(gzip.compress(content, 6))


def test_variants_are_weighed_and_damaged_ones_name_their_fault(tmp_path: Path) -> None:
    root = toy.repository(tmp_path / "models")
    with MemoryProbe() as probe:
        for name in ("fp32-onnxruntime", "fp32-openvino"):
            folder = root / "toy" / name
            weighed = probe.measure(folder / repository.MANIFEST, folder)
            assert weighed.gzip_bytes == gzip_bytes(folder / "model.onnx")
            assert 0 < weighed.load_peak_bytes < 100e6
        (folder / "model.onnx").write_bytes(b"damaged")
        with pytest.raises(RuntimeError, match="loading it in a process of its own: "):
            probe.measure(folder / repository.MANIFEST, folder)
