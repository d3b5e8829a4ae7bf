"""An answer may depend on the rows beside it by no more than a bound; where it would, it is computed by itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from compressors.data import datasets
from compressors.export.exporters import BATCH_RANGE
from compressors.measure import companions
from compressors.networks import zoo
from compressors.networks.layers import INPUT, OUTPUT
from protos import repository
from protos.manifest import Variant
from server import runtimes
from tests.support.compressors import small
from tests.support.compressors.world import published, start

STUDY = """
models = { small = "small" }
data = "small"
calibration = 8
runtimes = ["torchscript", "onnxruntime"]
[recipes.fp32]
step = "train"
fit = { epochs = 6, batch = 16, learning_rate = 0.1 }
[recipes.dynamic]
step = "dynamic-int8"
parent = "fp32"
"""


def dynamic(folder: Path) -> dict[str, Variant]:
    """Builds the study in `folder`; returns its dynamic int8 variants."""
    (folder / "s.toml").write_text(STUDY)
    built = start(folder / "s.toml")
    built.check()
    built.run()
    assert not built.failures
    return {name: variant for name, variant in published(built).items() if variant.recipe.name == "dynamic"}


def two_layers(classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, classes))


def test_dynamic_int8_keeps_the_bound_and_is_batched(world: None, tmp_path: Path) -> None:
    golden = dict[str, float]()
    for name, variant in dynamic(tmp_path).items():
        assert variant.max_batch is None
        assert BATCH_RANGE in variant.notes
        runtime = runtimes.load(tmp_path / "models" / "small" / name, variant, 1)
        golden[name] = companions.effect(runtime, variant, repository.load_golden(tmp_path / "models", "small"))
    assert len(golden) == 2
    assert 0 < max(golden.values()) <= companions.BOUND


def test_dynamic_int8_beyond_the_bound_is_answered_row_by_row(
    world: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = small.dataset()
    quiet = [replace(split, images=split.images // 128 + 101) for split in (everything.train, everything.test)]
    source = datasets.Source(*quiet, everything.labels, everything.preprocessing)
    monkeypatch.setitem(datasets.DATASETS, "small", lambda path, form, seed: source)
    monkeypatch.setitem(zoo.NETWORKS, "small", two_layers)
    variants = dynamic(tmp_path)
    assert len(variants) == 2
    for name, variant in variants.items():
        assert variant.max_batch == 1
        assert any("served without batching" in note for note in variant.notes)
        assert BATCH_RANGE not in variant.notes
        runtime = runtimes.load(tmp_path / "models" / "small" / name, variant, 1)
        rows = np.random.default_rng(0).random((3, 3, 8, 8), np.float32) * np.float32([[[[0.01]]], [[[1]]], [[[9]]]])
        alone = [runtime.infer({INPUT: row[None]})[OUTPUT][0] for row in rows]
        np.testing.assert_array_equal(runtime.infer({INPUT: rows})[OUTPUT], alone)
