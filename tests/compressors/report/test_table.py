"""The table: figures of manifests in three formats and as JSON, with what did not hold and what was not built."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from compressors.report import notes, table, unbuilt
from compressors.tasks.classification import mcnemar
from protos import repository
from protos.manifest import Footprint, Latency, Network, Quality, Step, Throughput, Variant
from protos.repository import Entry
from tests.support import toy


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return toy.repository(tmp_path / "models")


@pytest.fixture
def fp32(root: Path) -> Variant:
    (entry,) = [e for e in repository.scan(root) if e.name == "fp32-onnxruntime"]
    assert entry.variant is not None
    return replace(entry.variant, latency=latency(2.0), network=Network(1000, 1000, 3))


def latency(p50: float) -> Latency:
    return Latency(p50, p95_ms=p50, p99_ms=p50, batch=1, threads=1, samples=100)


def child(parent: Variant, name: str, p50: float, **changes: object) -> Variant:
    """A variant made from `parent` by a step of that name."""
    recipe = replace(parent.recipe, name=name, steps=(*parent.recipe.steps, Step(name, {})))
    named = replace(parent, variant=f"{name}-{parent.runtime}", recipe=recipe, latency=latency(p50))
    return replace(named, **changes)  # type: ignore[arg-type]


def test_csv_has_plain_numbers_and_an_empty_cell_for_what_was_not_measured(fp32: Variant, root: Path) -> None:
    quality = Quality("top1", 0.5, "toy", 20, 0.75, 0.6, fp32=0.75, others={"top5": 0.9}, lost=6, gained=1)
    int8 = child(fp32, "int8", 1.0, quality=quality, throughput=Throughput(512.0, 32, 1))
    rows = list(csv.DictReader(show([replace(fp32, footprint=None), int8], "csv", root).splitlines()))
    assert rows[1]["variant"] == "int8-onnxruntime"
    assert (rows[1]["lost"], rows[1]["gained"], rows[1]["mcnemar_p"]) == ("6", "1", "0.125")
    assert (rows[1]["top1"], rows[1]["top5"], rows[1]["times_faster"]) == ("0.5", "0.9", "2.0")
    assert (rows[1]["rows_per_second"], rows[1]["batch"]) == ("512.0", "32")
    assert (rows[0]["lost"], rows[0]["megabytes_gzip"]) == ("", "")


def test_mcnemars_p_needs_the_flips() -> None:
    quality = Quality("top1", 0.5, "toy", 20, 0.75, 0.6, fp32=0.75, lost=8, gained=2)
    assert mcnemar(quality) == 112 / 1024
    assert mcnemar(replace(quality, lost=None)) is None


def test_json_is_the_manifest_with_a_comparison(fp32: Variant, root: Path) -> None:
    (record,) = json.loads(table.as_json(entries([fp32], root)))
    assert record["latency"]["p50_ms"] == 2.0
    assert (record["comparison"]["times_faster"], record["comparison"]["lost"]) == (1.0, None)


def test_columns_without_any_figure_are_left_out_of_tables(fp32: Variant, root: Path) -> None:
    assert "top-5" not in show([fp32], "markdown", root, wide=True)
    quality = Quality("top1", 0.5, "toy", 20, 0.75, 0.6, fp32=0.75, others={"top5": 0.9})
    assert "| 50.00% | 90.00% |" in show([replace(fp32, quality=quality)], "markdown", root, wide=True)


@pytest.fixture
def made(fp32: Variant) -> list[Variant]:
    """FP32, and an int8 of a long name that is 12.34 points below it, 0.4 above its parent."""
    fp32 = replace(fp32, footprint=Footprint(1, 159_600_000), files=(replace(fp32.files[0], bytes=44_960_000),))
    fp32 = replace(fp32, quality=Quality("top1", 0.80, "toy", 1000, 0.80, 1.0, fp32=0.80))
    quality = Quality("top1", 0.6766, "toy", 1000, 0.6726, 0.6, fp32=0.80)
    name = "channels50-distilled-accuracy-aware-int8"
    return [fp32, child(fp32, name, 0.05, quality=quality, footprint=Footprint(1, 8_600_000))]


def test_80_columns_hold_what_matters_and_fold_long_names(
    made: list[Variant], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = show(made, "table", root).splitlines()
    assert lines[:7] == [
        "toy",
        "                                         against    p50                   memory",
        "variant                           top-1     FP32     ms  speed-up     MB      MB",
        "─" * 80,
        "fp32-onnxruntime                 80.00%    +0.00  2.000      1.0x  44.96   159.6",
        "channels50-distilled-accuracy-a  67.66%   -12.34  0.050     40.0x  44.96     8.6",
        "ware-int8-onnxruntime",
    ]
    assert max(map(len, lines)) == 80


@pytest.mark.parametrize("width", ["60", "80", "200"])
def test_no_width_cuts_a_figure(made: list[Variant], root: Path, width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    shown = show(made, "table", root)
    assert {"67.66%", "-12.34", "0.050", "40.0x", "44.96", "8.6", "159.6"} <= set(shown.split())
    assert "…" not in shown


def test_the_frontier_stands_last_with_its_figures(made: list[Variant], root: Path) -> None:
    assert show(made, "markdown", root).splitlines()[-1] == (
        "Frontier, nothing else is as fast and as accurate: channels50-distilled-accuracy-aware-int8-onnxruntime"
        " (67.66%, p50 0.050 ms), fp32-onnxruntime (80.00%, p50 2.000 ms)."
    )


def test_markdown_has_the_brief_columns_and_with_wide_all(made: list[Variant], root: Path) -> None:
    brief = show(made, "markdown", root).splitlines()[0]
    assert brief == "| variant | top-1 | against FP32 | p50 ms | speed-up | MB | memory MB |"
    wide = show(made, "markdown", root, wide=True).splitlines()[0]
    assert {"against parent", "p99 ms", "MB gzip", "M MACs"} <= set(wide.strip("| ").split(" | "))


def test_chosen_columns_come_in_the_order_of_the_choice(made: list[Variant], root: Path) -> None:
    shown = table.show(entries(made, root), "markdown", names=("megabytes", "points_vs_parent"))
    assert shown.splitlines()[:3:2] == ["| variant | MB | against parent |", "| fp32-onnxruntime | 44.96 | +0.00 |"]


@pytest.mark.parametrize(("samples", "points"), [(12, "8.33"), (499, "0.2"), (500, None)])
def test_few_test_images_are_a_warning_that_says_what_one_of_them_is(
    fp32: Variant, root: Path, samples: int, points: str | None
) -> None:
    shown = show([replace(fp32, quality=Quality("top1", 0.5, "toy", samples, 0.5, 0.6, fp32=0.5))], "markdown", root)
    assert f"only {samples} test images: one image is {points} points." in shown or points is None
    assert ("WARNING" in shown) == (points is not None)


def test_what_was_not_built_is_a_row_with_its_reason(root: Path) -> None:
    unbuilt.save(root / "toy", {"int8-openvino": "it cannot"}, {"int8-onnxruntime": "ValueError: no"})
    found = repository.scan(root)
    assert len(found) == 2
    markdown = table.show(found, "markdown")
    assert "| int8-openvino | - |" in markdown
    assert "int8-openvino: refused: it cannot." in markdown
    assert "int8-onnxruntime: failed: ValueError: no." in markdown
    assert "toy,int8-openvino," in table.show(found, "csv")
    assert {"model": "toy", "variant": "int8-openvino", "unbuilt": "refused: it cannot"} in json.loads(
        table.as_json(found)
    )
    unbuilt.save(root / "toy", {}, {})
    assert "int8-openvino" not in table.show(found, "markdown")


def test_several_models_are_told_apart_by_headings(root: Path) -> None:
    shutil.copytree(root / "toy", root / "another")
    for manifest in (root / "another").glob("*/manifest.json"):
        manifest.write_text(manifest.read_text().replace('"model": "toy"', '"model": "another"'))
    markdown = table.show(repository.scan(root), "markdown")
    assert [line for line in markdown.splitlines() if line.startswith("#")] == ["## another", "## toy"]


def test_a_damaged_record_of_what_was_not_built_hides_no_table(root: Path) -> None:
    (root / "toy" / unbuilt.FILE).write_text("[")
    assert "fp32-openvino" in table.show(repository.scan(root))


def test_int8_that_is_slower_says_so_with_the_reason(fp32: Variant) -> None:
    without = replace(fp32.machine, instruction_sets=("avx2",))
    int8 = child(fp32, "int8", 3.0, precision="int8", machine=without)
    assert notes.of([fp32, int8]) == {
        "int8-onnxruntime": [
            "int8 is no faster than fp32-onnxruntime here (3.000 ms against 2.000):"
            " this CPU has no instructions for int8 (VNNI)"
        ]
    }
    assert notes.of([fp32, child(fp32, "int8", 1.0, precision="int8", machine=without)]) == {}


@pytest.mark.parametrize(
    ("ranges", "value", "said"), [("default", 0.17, 1), ("mean-min-max", 0.17, 0), ("default", 0.62, 0)]
)
def test_int8_that_fell_far_says_what_to_try(fp32: Variant, ranges: str, value: float, said: int) -> None:
    int8 = child(fp32, "int8", 1.0, precision="int8", quality=Quality("top1", value, "toy", 20, 0.665, 0.2, fp32=0.665))
    recipe = replace(int8.recipe, steps=(*fp32.recipe.steps, Step("static-int8", {"ranges": ranges})))
    texts = notes.of([fp32, replace(int8, recipe=recipe)]).get("int8-onnxruntime", [])
    expected = 'lost 49.5 points: one calibration image may have set its ranges, see ranges = "mean-min-max"'
    assert texts == [expected][:said]


@pytest.mark.parametrize(("interval", "said"), [((0.01, 0.03), 1), ((-0.01, 0.05), 0), (None, 0)])
def test_int8_that_lost_points_says_what_loses_less_unless_it_may_be_chance(
    fp32: Variant, interval: tuple[float, float] | None, said: int
) -> None:
    quality = Quality("top1", 0.73, "toy", 1000, 0.75, 0.9, fp32=0.75, drop_interval=interval)
    int8 = child(fp32, "int8", 1.0, precision="int8", quality=quality)
    recipe = replace(int8.recipe, steps=(*fp32.recipe.steps, Step("static-int8", {})))
    texts = notes.of([fp32, replace(int8, recipe=recipe)]).get("int8-onnxruntime", [])
    assert texts == ["lost 2.0 points: accuracy-aware-int8 (--max-drop) takes layers back to FP32"][:said]


def test_what_there_was_no_time_for_is_said(fp32: Variant) -> None:
    fp32 = replace(fp32, quality=Quality("top1", 0.75, "toy", 800, 0.75, 1.0, fp32=0.75))
    slow = replace(latency(600.0), samples=16, known_within=0.061)
    int8 = child(fp32, "int8", 1.0, latency=slow, quality=Quality("top1", 0.75, "toy", 200, 0.75, 1.0, fp32=0.75))
    assert notes.of([fp32, int8])["int8-onnxruntime"][:2] == [
        "top-1 on 200 of 800 images: its time was over",
        "its p50 is known within 6.1% after 16 calls, its time was over before it was within 2%",
    ]


def test_masked_weights_say_that_they_gain_nothing(fp32: Variant) -> None:
    masked = child(fp32, "sparse60", 2.0, network=Network(1000, 400, 3), notes=("a note",))
    assert notes.of([fp32, masked]) == {
        "sparse60-onnxruntime": [
            "a note",
            "masked weights (60% of the weights are zero), dense kernels: no faster than fp32-onnxruntime",
        ]
    }


def test_pruning_that_is_no_faster_says_so(fp32: Variant) -> None:
    pruned = child(fp32, "channels10", 1.99, network=Network(900, 900, 3))
    assert notes.of([fp32, pruned])["channels10-onnxruntime"][0].startswith("fewer weights, but no faster than fp32-")


def entries(variants: list[Variant], root: Path) -> list[Entry]:
    return [Entry(v.model, v.variant, root / v.model / v.variant, v, None) for v in variants]


def show(variants: list[Variant], form: table.Format, root: Path, wide: bool = False) -> str:
    return table.show(entries(variants, root), form, wide)
