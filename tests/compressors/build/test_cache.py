"""Finished steps: whole or not there, one build at a time."""

from pathlib import Path

import pytest

from compressors.build.cache import Cache, key
from protos.errors import UsageError


def test_keys_depend_on_every_part() -> None:
    assert key(1, "a") == key(1, "a")
    assert len({key(1, "a"), key(1, "b"), key("1", "a"), key(1, "a", None)}) == 4


def test_a_step_appears_whole_and_what_it_kept_goes(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "m")
    (cache.work("k") / "checkpoint").touch()
    with cache.appearing("k") as staging:
        (staging / "result").write_text("1")
        assert not cache.folder("k").exists()
    assert [path.name for path in (tmp_path / ".build" / "m").iterdir()] == ["k"]
    assert (cache.folder("k") / "result").read_text() == "1"


def test_a_step_that_fails_leaves_only_its_work(tmp_path: Path) -> None:
    cache = Cache(tmp_path, "m")
    (cache.work("k") / "checkpoint").touch()
    with pytest.raises(FileNotFoundError), cache.appearing("k") as staging:
        (staging / "missing" / "half").touch()
    assert [path.name for path in (tmp_path / ".build" / "m").iterdir()] == ["k.work"]


def test_a_second_build_of_the_same_model_is_refused(tmp_path: Path) -> None:
    with Cache(tmp_path, "m").locked():
        with pytest.raises(UsageError, match="another build is at work"), Cache(tmp_path, "m").locked():
            pass
        with Cache(tmp_path, "other").locked():
            pass
    with Cache(tmp_path, "m").locked():
        pass
