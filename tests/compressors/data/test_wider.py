"""WIDER FACE's own layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from compressors.data import wider
from protos.errors import UsageError

TRAIN = """0--Parade/a.jpg
3
10 20 30 60 0 0 0 0 0 0
10 20 30 60 0 0 0 1 0 0
5 5 0 40 0 0 0 0 0 0
1--Riot/b.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Riot/c.jpg
1
1 2 8 9 0 0 0 0 0 0
"""
VAL = """0--Parade/d.jpg
2
10 20 30 50 0 0 0 1 0 0
0 0 25 30 0 0 0 0 0 0
1--Riot/e.jpg
1
1 2 8 10 0 0 0 0 0 0
"""


def images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 24)).save(folder / name)


def cells(rows: list[object]) -> np.ndarray[tuple[int, int], np.dtype[np.object_]]:
    """A column of MATLAB's cells."""
    column = np.empty((len(rows), 1), np.object_)
    column[:, 0] = rows
    return column


def lists(folder: Path, **numbers: list[list[int]]) -> None:
    """Writes which faces of d.jpg, of one that is not there, and of e.jpg count."""
    folder.mkdir()
    for setting, (first, second, third) in numbers.items():
        listed = {
            "event_list": cells(["0--Parade", "1--Riot"]),
            "file_list": cells([cells(["d", "gone"]), cells(["e"])]),
            "gt_list": cells([cells([np.array([first]).T, np.array([second]).T]), cells([np.array([third]).T])]),
        }
        savemat(folder / f"wider_{setting}_val.mat", listed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "wider_face_split").mkdir()
    (tmp_path / "wider_face_split" / "wider_face_train_bbx_gt.txt").write_text(TRAIN)
    (tmp_path / "wider_face_split" / "wider_face_val_bbx_gt.txt").write_text(VAL)
    images(tmp_path / "WIDER_train" / "images", "0--Parade/a.jpg", "1--Riot/b.jpg", "1--Riot/c.jpg")
    images(tmp_path / "WIDER_val" / "images", "0--Parade/d.jpg", "1--Riot/e.jpg")
    return tmp_path


def test_both_parts_are_read_with_boxes_as_corners(folder: Path) -> None:
    parts = wider.read(folder, 0)
    assert (parts.labels, parts.test.settings) == (("face",), ("easy", "medium", "hard"))
    assert parts.train.objects.boxes.tolist()[0] == [10, 20, 40, 80]
    assert parts.train.objects.areas.tolist() == [1800, 1800, 0, 72]
    assert parts.test.objects.counts.tolist() == [2, 1]
    assert parts.test.files[0] == (folder / "WIDER_val" / "images" / "0--Parade" / "d.jpg").read_bytes()


def test_an_image_without_faces_has_none_though_it_has_a_line_of_zeros(folder: Path) -> None:
    assert wider.read(folder, 0).train.objects.counts.tolist() == [3, 0, 1]


def test_invalid_faces_and_those_without_area_do_not_count(folder: Path) -> None:
    counting = wider.read(folder, 0).train.objects.counting
    assert counting.astype(int).tolist() == [[1, 1, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_without_the_matlab_files_height_decides_and_that_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wider.read(folder, 0).test.objects.counting.astype(int).tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert "count by their height: easy from 50 px, medium from 30 px, hard from 10 px" in said(capsys)


def test_the_matlab_files_decide_where_they_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists(folder / "ground_truth", easy=[[], [], []], medium=[[1], [7], []], hard=[[1, 2], [7], [1]])
    assert wider.read(folder, 0).test.objects.counting.astype(int).tolist() == [[0, 1, 1], [0, 0, 1], [0, 0, 1]]
    assert said(capsys) == ""


def test_matlab_files_of_other_faces_are_named(folder: Path) -> None:
    lists(folder / "ground_truth", easy=[[], [], []], medium=[[], [], []], hard=[[3], [], []])
    with pytest.raises(UsageError, match=r"hard_val\.mat: 0--Parade/d\.jpg: got other faces than the 2"):
        wider.read(folder, 0)


def test_a_damaged_matlab_file_is_named(folder: Path) -> None:
    lists(folder / "ground_truth", easy=[[], [], []], medium=[[], [], []], hard=[[], [], []])
    (folder / "ground_truth" / "wider_hard_val.mat").write_bytes(b"x" * 200)
    with pytest.raises(UsageError, match=r"wider_hard_val\.mat: not one of WIDER's MATLAB files"):
        wider.read(folder, 0)


def test_images_that_are_missing_are_left_out_and_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "WIDER_train" / "images" / "0--Parade" / "a.jpg").unlink()
    train = wider.read(folder, 0).train
    assert (len(train), train.objects.boxes.tolist()) == (2, [[1, 2, 9, 11]])
    assert "1 of 3 images are not in" in said(capsys)


def test_a_part_without_any_image_is_named(folder: Path) -> None:
    (folder / "WIDER_val").rename(folder / "val")
    with pytest.raises(UsageError, match=r"wider_face_val_bbx_gt\.txt: none of its 2 images is in .*WIDER_val"):
        wider.read(folder, 0)


def test_the_validation_part_alone_is_divided(folder: Path) -> None:
    (folder / "wider_face_split" / "wider_face_train_bbx_gt.txt").unlink()
    parts = wider.read(folder, 0)
    assert (len(parts.train), len(parts.test)) == (1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got no line EVENT/NAME"),
        ("a/b.jpg\n", "a/b.jpg: expected a number of faces, then 10 numbers"),
        ("a/b.jpg\n1\n1 2 3 4\n", "a/b.jpg: expected a number of faces, then 10 numbers"),
        ("a/b.jpg\n2\n1 2 3 4 0 0 0 0 0 0\n", "a/b.jpg: got 1 faces, expected 2"),
        ("a/b.jpg\n0\n1 2 3 4 0 0 0 0 0 0\n", "a/b.jpg: got 1 faces, expected 0"),
    ],
)
def test_annotations_of_another_form_are_named(folder: Path, text: str, message: str) -> None:
    (folder / "wider_face_split" / "wider_face_val_bbx_gt.txt").write_text(text)
    with pytest.raises(UsageError, match=rf"wider_face_val_bbx_gt\.txt: {message}"):
        wider.read(folder, 0)


def test_an_image_that_a_server_would_refuse_is_named(folder: Path) -> None:
    (folder / "WIDER_val" / "images" / "1--Riot" / "e.jpg").write_bytes(b"GIF89a")
    with pytest.raises(UsageError, match=r"e\.jpg: got 6 bytes that are no JPEG or PNG file"):
        wider.read(folder, 0)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())
