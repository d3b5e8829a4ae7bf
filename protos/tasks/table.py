"""The tasks: a third one is a module here and in each program's own `tasks`, and a row in each of their tables."""

from protos.manifest import TaskName
from protos.tasks.classification import Classification
from protos.tasks.detection import Detection
from protos.tasks.task import Task

TASKS: dict[TaskName, Task] = {"classification": Classification(), "detection": Detection()}
