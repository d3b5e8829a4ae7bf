"""A user's folder, in the layout that it has."""

import json
from pathlib import Path

import pytest
from PIL import Image

from compressors.data import detection_folder
from protos.errors import UsageError


def pictures(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True)
    for name in names:
        Image.new("RGB", (16, 12)).save(folder / name)


def test_widers_layout_is_known(tmp_path: Path) -> None:
    pictures(tmp_path / "WIDER_val" / "images" / "0--Parade", "a.jpg", "b.jpg")
    (tmp_path / "wider_face_split").mkdir()
    blocks = "".join(f"0--Parade/{name}.jpg\n1\n1 1 9 9 0 0 0 0 0 0\n" for name in "ab")
    (tmp_path / "wider_face_split" / "wider_face_val_bbx_gt.txt").write_text(blocks)
    assert detection_folder.read(tmp_path, 0).labels == ("face",)


def test_cocos_layout_is_known(tmp_path: Path) -> None:
    pictures(tmp_path / "valid", "a.jpg", "b.jpg")
    listed = [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}]
    record = {"images": listed, "categories": [{"id": 1, "name": "fish"}], "annotations": []}
    (tmp_path / "valid" / "_annotations.coco.json").write_text(json.dumps(record))
    assert detection_folder.read(tmp_path, 0).labels == ("fish",)


@pytest.mark.parametrize("name", ["train", "missing"])
def test_neither_layout_is_one_line_that_names_both(tmp_path: Path, name: str) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(
        UsageError, match=rf"--data .*{name}: expected a folder in WIDER's layout .* or in COCO's"
    ) as told:
        detection_folder.read(tmp_path / name, 0)
    assert "\n" not in str(told.value)
