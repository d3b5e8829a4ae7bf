"""Each runtime answers a network that does nothing, and its call has a price."""

import pytest

from compressors.measure import floors


def test_every_runtime_has_a_floor_and_the_cheapest_comes_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = floors.floors(0.05)
    assert found.keys() == {"pytorch", "torchscript", "onnxruntime", "openvino", "pytorch, compiled"}
    assert min(found.values()) > 0
    monkeypatch.setattr(floors, "floors", lambda: {"slow": 20.04, "quick": 3.0})
    assert floors.main() == 0
    table, machine = capsys.readouterr().out.split("\n\n")
    assert table.splitlines()[2:] == ["| quick | 3.0 |", "| slow | 20.0 |"]
    assert machine.startswith("Machine: ")
