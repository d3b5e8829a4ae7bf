"""The tasks of the load test: a further one is a module here, a row, and a part of `AnyFlip`."""

from collections.abc import Sequence

from loadtest.tasks.classification import ClassFlip, Classification
from loadtest.tasks.detection import Detection, ObjectFlip
from loadtest.tasks.task import Task
from protos.manifest import TaskName
from protos.v1 import inference_pb2 as pb

TASKS: dict[TaskName, Task] = {"classification": Classification(), "detection": Detection()}

METRICS: dict[str, TaskName] = {task.metric: name for name, task in TASKS.items()}
"""The metrics that decide, as manifests and metrics pages name them, and their tasks."""

AnyFlip = ClassFlip | ObjectFlip
"""What `results.json` has of a flip; the keys tell which of these it is."""


def title(metrics: Sequence[str | None]) -> str:
    """Returns what people call the first of these metrics that is known."""
    known = [TASKS[METRICS[metric]].title for metric in metrics if metric in METRICS]
    return known[0] if known else "accuracy"


def task_of(metadata: pb.ModelMetadataResponse) -> TaskName:
    """Returns the task of a model by what its metadata declares; classification where nothing speaks against it."""
    names = {output.name for output in metadata.outputs}
    return next((name for name, task in TASKS.items() if task.outputs and task.outputs <= names), "classification")
