"""The tasks that are served; a further one is a module here and a row."""

from collections.abc import Callable

from protos.manifest import TaskName
from server.tasks.answer_threads import AnswerThreads
from server.tasks.classification import Classification
from server.tasks.detection import Detection
from server.tasks.task import Task

SERVED: dict[TaskName, Callable[[AnswerThreads], Task]] = {"classification": Classification, "detection": Detection}


def served(threads: AnswerThreads) -> dict[TaskName, Task]:
    """Returns the tasks of one server, which make their longer answers in `threads`."""
    return {name: task(threads) for name, task in SERVED.items()}
