"""Builds: finished steps are not done again, a failure costs one variant, figures are what was measured."""

import csv
import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from torch import nn

from compressors import __main__ as program
from compressors import study
from compressors.build import publishing
from compressors.build.pipeline import Build, Tools, read_data
from compressors.data.datasets import OWN_FORM
from compressors.export import exporters, measured
from compressors.measure import latency
from compressors.networks.layers import INPUT, OUTPUT
from compressors.recipes import recipes
from compressors.recipes.steps import ChannelPruning, NetworkStep
from compressors.report import table, unbuilt
from protos import preprocessing, repository
from protos.manifest import from_json
from protos.support import machine
from server import runtimes
from server.runtimes.golden import check_golden
from tests.support.compressors import small
from tests.support.compressors.world import QUICK, published, small_world, start

STUDY = """
models = { small = "small" }
data = "small"
calibration = 8
runtimes = ["torchscript", "onnxruntime"]
[recipes.fp32]
step = "train"
fit = { epochs = 6, batch = 16, learning_rate = 0.1 }
[recipes.channels50]
step = "channel-pruning"
parent = "fp32"
ratio = 0.5
fit = { epochs = 2, batch = 16, learning_rate = 0.02, distillation = 0.5 }
[recipes.int8]
step = "static-int8"
parent = "fp32"
[published.small]
int8-onnxruntime = "1.51 ms"
"""
NAMES = {
    f"{recipe}-{runtime}" for recipe in ("fp32", "channels50", "int8") for runtime in ("torchscript", "onnxruntime")
}


pytestmark = pytest.mark.usefixtures("world")


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A finished build that tests only look at."""
    folder = tmp_path_factory.mktemp("once")
    (folder / "small.toml").write_text(STUDY)
    with small_world():
        built = start(folder / "small.toml")
        built.run()
    return built


@pytest.fixture(scope="module")
def lame(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The same build where one exporter is broken."""
    folder = tmp_path_factory.mktemp("lame")
    (folder / "small.toml").write_text(STUDY)
    broken = dataclasses.replace(exporters.EXPORTERS["torchscript"], function="no.such:exporter")
    with small_world(), pytest.MonkeyPatch.context() as patch:
        patch.setitem(exporters.EXPORTERS, "torchscript", broken)
        built = start(folder / "small.toml")
        built.run()
    return built


@pytest.fixture
def done() -> list[str]:
    """The names of the costly steps, as they are carried out."""
    return []


@pytest.fixture
def noting(done: list[str]) -> Tools:
    """Quick tools that note in `done` what they do."""

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: object) -> object:
            done.append(name)
            return function(*arguments)

        return run

    return dataclasses.replace(
        QUICK,
        apply=noted("network", QUICK.apply),
        export=noted("export", QUICK.export),
        latencies=noted("latency", QUICK.latencies),
    )


@pytest.fixture
def finished(once: Build, tmp_path: Path) -> None:
    """`build` finds all of `STUDY` built, in a repository of its own."""
    shutil.copytree(once.root, tmp_path / "models")


@pytest.fixture
def build(tmp_path: Path, noting: Tools) -> Callable[..., Build]:
    def make(text: str = STUDY, **changes: Any) -> Build:
        (tmp_path / "small.toml").write_text(text)
        return start(tmp_path / "small.toml", dataclasses.replace(noting, **changes))

    return make


def test_the_figures_of_others_stand_beside_the_measured_ones(once: Build) -> None:
    assert {name: v.published for name, v in published(once).items() if v.published} == {"int8-onnxruntime": "1.51 ms"}
    rows = {row["variant"]: row for row in csv.DictReader(table.show(repository.scan(once.root), "csv").splitlines())}
    assert (rows["int8-onnxruntime"]["published"], rows["fp32-onnxruntime"]["published"]) == ("1.51 ms", "")


def test_every_recipe_is_published_in_every_runtime_with_its_figures(once: Build) -> None:
    variants = published(once)
    assert variants.keys() == NAMES
    for variant in variants.values():
        assert variant.quality is not None
        assert variant.latency is not None
        assert variant.quality.samples == 96
        assert variant.latency.p50_ms > 0
        assert 1 <= variant.latency.samples <= latency.BLOCK_CALLS
    assert variants["channels50-onnxruntime"].network.macs < 0.4 * variants["fp32-onnxruntime"].network.macs


def test_quality_is_that_of_the_published_artifact(once: Build) -> None:
    everything = small.dataset()
    inputs, labels = everything.inputs(everything.test), everything.test.truth["labels"]
    fp32 = None
    for entry in sorted(repository.scan(once.root), key=lambda e: e.name != "fp32-torchscript"):
        variant = repository.verify(entry)
        adapter = runtimes.load(entry.folder, variant, 1)
        predictions = adapter.infer({INPUT: inputs})[OUTPUT].argmax(1)
        fp32 = predictions if fp32 is None else fp32
        assert variant.quality is not None
        assert variant.quality.value == (predictions == labels).mean()
        assert variant.quality.agreement == (predictions == fp32).mean()
        assert variant.quality.lost == ((predictions != labels) & (fp32 == labels)).sum()
        assert variant.quality.gained == ((predictions == labels) & (fp32 != labels)).sum()
        assert variant.quality.others is None  # no top-5 of three classes


def test_the_golden_set_holds_test_images_and_what_fp32_answers(once: Build) -> None:
    golden = repository.load_golden(once.root, "small")
    assert golden.inputs[INPUT].shape == (16, 3, 8, 8)
    for entry in repository.scan(once.root):
        adapter = runtimes.load(entry.folder, repository.verify(entry), 1)
        check_golden(adapter, repository.verify(entry), golden)
    test = small.dataset().inputs(small.dataset().test)
    assert all((row == test).all(axis=(1, 2, 3)).any() for row in golden.inputs[INPUT])


def test_the_test_split_makes_the_inputs_and_the_figures_that_were_measured(once: Build) -> None:
    test = repository.load_evaluation_set(once.root, "small", "classification")
    for variant in published(once).values():
        made = preprocessing.normalise(test.images, variant.preprocessing)
        np.testing.assert_array_equal(made, once.networks.questions(once.study.reference).inputs[:])  # to the bit
        assert variant.quality is not None
        assert (variant.quality.samples, variant.quality.dataset) == (len(test), "small test")
        assert variant.quality.fp32 == (test.reference["best"][:, 0] == test.truth["labels"]).mean()


def test_a_large_test_split_is_left_out_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, earlier = small.dataset(), tmp_path / "small" / "test.npz"
    answers = {"best": data.test.truth["labels"][:, None]}
    publishing.save_test_split(tmp_path, "small", data, answers)
    assert earlier.exists()
    publishing.save_test_split(tmp_path, "small", data, answers, most=data.test.as_sent().nbytes - 1)
    assert not earlier.exists()
    assert "test.npz: left out, its images take" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("rows", [2, pytest.param(21, marks=pytest.mark.long)])
def test_a_model_of_few_images_is_built_and_the_table_says_how_little_they_show(tmp_path: Path, rows: int) -> None:
    images = small.dataset().test.as_sent()[:rows]
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(rows) % 2, names=np.array(["a", "b", "c"]))
    torch.save(small.Small().state_dict(), tmp_path / "weights.pt")
    runs = ("torchscript", "onnxruntime", "openvino")
    own = study.own("few", "small", str(tmp_path / "weights.pt"), "arrays", OWN_FORM, None, runs)
    built = Build(own, tmp_path / "models", read_data(own, tmp_path / "few.npz"), QUICK)
    built.check()
    built.run()
    assert built.failures == {}
    assert published(built).keys() == {f"{recipe}-{runtime}" for recipe in ("fp32", "int8") for runtime in runs}
    tests = max(1, rows // 3)
    golden = repository.load_golden(built.root, "few")
    assert len(golden) == min(16, tests)
    for entry in repository.scan(built.root):
        check_golden(runtimes.load(entry.folder, repository.verify(entry), 1), repository.verify(entry), golden)
    shown = table.show(repository.scan(built.root))
    assert f"WARNING: only {tests} test images: one image is {100 / tests:.3g} points." in shown


def test_a_second_build_does_nothing_again(build: Callable[..., Build], done: list[str]) -> None:
    build().run()
    assert sorted(set(done)) == ["export", "latency", "network"]
    before = published(build())
    done.clear()
    build().run()
    assert done == []
    assert published(build()) == before


def test_a_variant_whose_layers_were_timed_on_this_machine_is_kept_too(
    build: Callable[..., Build], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "SECONDS", 0.0)
    timed = STUDY.replace('step = "static-int8"', 'step = "static-int8"\nexclude = "measured"')
    built = build(timed)
    built.run()
    assert (built.failures, published(built).keys()) == ({}, NAMES)
    done.clear()
    build(timed).run()
    assert done == []


@pytest.mark.usefixtures("finished")
def test_a_changed_recipe_redoes_only_what_it_touches(build: Callable[..., Build], done: list[str]) -> None:
    build(STUDY.replace("ratio = 0.5", "ratio = 0.25")).run()
    assert done == ["network", "export", "export", "latency"]


@pytest.mark.usefixtures("finished")
def test_layers_that_were_left_out_by_their_times_are_found_again_on_another_cpu_only(
    build: Callable[..., Build], done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "BLOCK_CALLS", 2)
    text = STUDY.replace('"static-int8"', '"static-int8"\nexclude = "measured"')
    build(text).run()
    assert done == ["export", "export", "latency"]
    variant = published(build(text))["int8-onnxruntime"]
    assert variant.recipe.steps[-1].parameters["exclude"] == "measured"
    assert variant.notes[-1].endswith("layers timed)")
    done.clear()
    build(text).run()
    assert done == []
    monkeypatch.setattr(machine, "_cpu_name", lambda: "another")
    build(text).run()
    assert done == ["export", "export", "latency"]


def test_an_interrupted_build_goes_on_where_it_stopped(build: Callable[..., Build], done: list[str]) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(latencies=interrupt).run()
    assert not list((build().root / ".build").rglob("*.staging"))
    done.clear()
    build().run()
    assert done == ["latency"]
    assert published(build()).keys() == NAMES


def test_a_failed_variant_is_reported_and_the_others_are_built(lame: Build) -> None:
    assert lame.failures == {
        name: "ModuleNotFoundError: No module named 'no'" for name in NAMES if name.endswith("torchscript")
    }
    assert published(lame).keys() == {name for name in NAMES if name.endswith("onnxruntime")}


def test_what_was_left_out_is_kept_beside_the_variants(lame: Build) -> None:
    kept = unbuilt.load(lame.root / "small")
    assert kept["fp32-torchscript"] == "failed: ModuleNotFoundError: No module named 'no'"
    assert {e.name for e in repository.scan(lame.root)} == NAMES - kept.keys()


def test_a_failed_variant_is_told_by_its_telling_line_and_all_of_it_is_in_a_log(
    build: Callable[..., Build], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def export(exporter: exporters.Exporter, job: exporters.Job) -> exporters.Exported:
        if exporter is exporters.EXPORTERS["torchscript"]:
            openvino.Core().read_model(tmp_path / "none.xml")
        return exporters.export(exporter, job)

    built = build(export=export)
    built.run()
    cause = 'RuntimeError: ir: Could not open the file: "none.xml"'
    assert built.failures == {name: cause for name in NAMES if name.endswith("torchscript")}
    log = built.root / ".build" / "small" / "fp32-torchscript.log"
    said = "".join(capsys.readouterr().err.split())  # a narrow screen breaks its lines
    assert "".join(f"fp32-torchscript: FAILED, {cause} (all of it: {log})".split()) in said
    assert "Traceback" in log.read_text()
    assert "Exception from src/" in log.read_text()
    assert unbuilt.load(built.root / "small")["fp32-torchscript"] == f"failed: {cause}"
    shown = table.show(repository.scan(built.root))
    assert "All of what failed: .build/small/VARIANT.log in the repository." in shown
    build().run()
    assert not log.exists()


def test_the_program_ends_with_each_failure_and_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(exporters.EXPORTERS, "torchscript", exporters.Exporter("no.such:exporter", ()))
    monkeypatch.setitem(exporters.EXPORTERS, "onnxruntime", exporters.Exporter("no.such:exporter", ()))
    (tmp_path / "small.toml").write_text(STUDY.partition("[recipes.channels50]")[0])
    root = tmp_path / "models"
    assert program.main(["build", "--study", f"{tmp_path}/small.toml", "--repository", str(root)]) == 1
    failed = (
        "FAILED small/fp32-{0}: ModuleNotFoundError: No module named 'no' (all of it: {1}/.build/small/fp32-{0}.log)"
    )
    assert capsys.readouterr().err.splitlines()[-2:] == [
        failed.format(name, root) for name in ("torchscript", "onnxruntime")
    ]


def test_a_failed_network_costs_only_what_is_made_from_it(build: Callable[..., Build]) -> None:
    def apply(step: NetworkStep, at: recipes.StepContext) -> nn.Module:
        if isinstance(step, ChannelPruning):
            raise ValueError("no channel left")
        return recipes.apply(step, at)

    built = build(apply=apply)
    built.run()
    assert built.failures == dict.fromkeys(
        ["channels50-torchscript", "channels50-onnxruntime"], "ValueError: no channel left"
    )
    assert len(published(built)) == 4


@pytest.mark.usefixtures("finished")
def test_a_damaged_artifact_is_published_again(build: Callable[..., Build], done: list[str]) -> None:
    built = build()
    (built.root / "small" / "int8-onnxruntime" / "model.onnx").write_bytes(b"damaged")
    built.run()
    assert done == []
    assert published(built).keys() == NAMES


@pytest.mark.usefixtures("finished")
def test_a_damaged_step_is_done_again(build: Callable[..., Build], done: list[str]) -> None:
    built = build()
    before = published(built)
    (path,) = (p for p in built.root.glob(".build/*/*/artifact/model.pt") if _precision(p) == "int8")
    path.write_bytes(b"damaged")
    shutil.rmtree(built.root / "small")
    built.run()
    assert done == ["export"]
    after = published(built)
    assert after["int8-torchscript"].quality == before["int8-torchscript"].quality
    assert after.keys() == NAMES


def _precision(artifact: Path) -> str:
    return from_json((artifact.parents[1] / "manifest.json").read_text()).precision


@pytest.mark.usefixtures("finished")
def test_another_reference_makes_other_figures(build: Callable[..., Build], done: list[str]) -> None:
    build(STUDY.replace("epochs = 6", "epochs = 5")).run()
    assert sorted(done) == ["export"] * 6 + ["latency"] + ["network"] * 2


def test_the_manifest_names_the_chain_and_its_parent(once: Build) -> None:
    int8 = published(once)["int8-torchscript"]
    assert [step.name for step in int8.recipe.steps] == ["train", "static-int8"]
    assert int8.precision == "int8"
    assert int8.sources.calibration is not None
    assert int8.quality is not None
    assert int8.quality.parent == published(once)["fp32-torchscript"].quality.value  # type: ignore[union-attr]


def test_accuracy_aware_int8_gets_the_labels_and_its_bound_is_in_the_manifest(build: Callable[..., Build]) -> None:
    fp32, _, _ = STUDY.partition("[recipes.channels50]")
    aware = '[recipes.aware]\nstep = "accuracy-aware-int8"\nparent = "fp32"\nmax_drop = 2\n'
    built = build(fp32 + aware)
    built.run()
    assert built.refused == {"aware-torchscript": "accuracy control is NNCF's, for graphs of OpenVINO and ONNX"}
    variant = published(built)["aware-onnxruntime"]
    assert variant.recipe.steps[-1].parameters == {"max_drop": 2.0, "range": "reduced", "float_layers": []}
    assert variant.sources.calibration is not None
