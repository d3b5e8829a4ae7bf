"""A user's own images with boxes, as a folder in WIDER's layout or in COCO's: `wider` and `coco` have them."""

from pathlib import Path

from compressors.data import coco, wider
from compressors.data.detection import DetectionParts
from protos.errors import UsageError


def read(path: Path, seed: int) -> DetectionParts:
    """Reads a folder in the layout that it has; where there is no test part, `seed` draws a third of the training part.

    Raises `UsageError` for a folder in neither layout, and for files that do not fit theirs.
    """
    if wider.annotations(path):
        return wider.read(path, seed)
    if coco.annotations(path):
        return coco.read(path, seed)
    raise UsageError(
        f"--data {path}: expected a folder in WIDER's layout (wider_face_split/wider_face_val_bbx_gt.txt, "
        "WIDER_val/images/) or in COCO's (annotations/instances_val*.json, val*/, or valid/_annotations.coco.json)"
    )
