"""The tasks as the offline stage knows them."""

from compressors.tasks.classification import StudiedClassification
from compressors.tasks.detection import StudiedDetection
from compressors.tasks.task import StudiedTask
from protos.manifest import TaskName

STUDIED: dict[TaskName, StudiedTask] = {
    "classification": StudiedClassification(),
    "detection": StudiedDetection(),
}
