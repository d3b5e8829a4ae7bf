"""One inference request from its message to the response, whichever call it came by.

    check     decodes, finds the variant, compares the request with it, learns what its task shall make of the outputs
    warm      waits until a variant that is COLD is in memory
    submit    queues it at the variant's engine
    respond   makes the answer of the engine's outputs

Errors are raised as domain errors. Parameters that are unknown are ignored, as the protocol wants, except those that
would silently change what the answer means.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from protos.errors import UnavailableError
from protos.manifest import TaskName, Variant
from protos.tensors import Array, check, encode_response, read
from protos.v1 import inference_pb2 as pb
from server.api.images import Images, accepted
from server.execution.engine import Answer, Engine, Job, Reply, answered
from server.hosting.hosted import Hosted
from server.hosting.registry import Registry
from server.observability.request_record import Exporter, RequestRecord
from server.tasks.task import Finish, Sizes, Task


@dataclass(slots=True)
class Checked:
    """A request that may be executed."""

    request: pb.ModelInferRequest
    record: RequestRecord
    hosted: Hosted
    engine: Engine | None
    """None: the variant was COLD."""
    variant: Variant
    rows: int
    inputs: dict[str, Array] | None
    """None: images, which have to be read first."""
    finish: Finish | None
    """Makes the outputs of the answer; None: they are the engine's own."""

    def submit(self, inputs: dict[str, Array], reply: Reply) -> Job:
        """Queues it; where there was no engine when the request was checked, or another, at the one there is now.

        One that takes or gives something else would make another answer of it: that one is not asked.
        """
        record = self.record
        record.admit(self.variant.model, self.variant.variant, self.rows)
        engine = self.engine or self._engine_now()
        try:
            return engine.submit(inputs, self.rows, record.deadline, reply)
        except UnavailableError:
            if (successor := self._engine_now()) is engine:
                raise
            return successor.submit(inputs, self.rows, record.deadline, reply)

    def _engine_now(self) -> Engine:
        engine, variant = self.hosted.serving()
        if engine is None:
            raise UnavailableError(f"variant '{self.hosted.label}' left memory again")
        if _checked_by(variant) != _checked_by(self.variant):
            raise UnavailableError(f"variant '{self.hosted.label}' is another one now, which the request was not for")
        return engine

    def respond(
        self, answer: Answer, sizes: Sizes | None = None
    ) -> pb.ModelInferResponse | Awaitable[pb.ModelInferResponse]:
        """Returns the response, or where it takes long to make, what makes it on the event loop."""
        self.record.take_answer(answer)
        if self.finish is None:
            return self._encoded({spec.name: answer.outputs[spec.name] for spec in self.variant.outputs})
        made = self.finish(answer.outputs, sizes)
        return self._encoded_later(made) if inspect.isawaitable(made) else self._encoded(made)

    def _encoded(self, outputs: dict[str, Array]) -> pb.ModelInferResponse:
        return encode_response(self.variant.model, self.variant.variant, outputs, self.request.id)

    async def _encoded_later(self, made: Awaitable[dict[str, Array]]) -> pb.ModelInferResponse:
        return self._encoded(await made)


def _checked_by(variant: Variant) -> tuple[object, ...]:
    """Returns what a request is checked, its images are read and its answer is made by."""
    return variant.inputs, variant.outputs, variant.preprocessing, variant.labels, variant.task, variant.decoding


class Inference:
    """Answers for the variants of `registry`, which `warm` loads; a request holds at most `max_rows` rows."""

    def __init__(
        self,
        registry: Registry,
        max_rows: int,
        images: Images,
        tasks: Mapping[TaskName, Task],
        warm: Callable[[Hosted], Awaitable[None]],
        exporters: Sequence[Exporter] = (),
    ) -> None:
        self._registry, self._max_rows, self._images = registry, max_rows, images
        self._tasks, self._warm, self._exporters = tasks, warm, exporters

    def check(self, request: pb.ModelInferRequest, record: RequestRecord) -> Checked:
        """Returns what a request asks for; raises the error that says why it cannot be asked. For any thread."""
        record.arrive(request)
        record.readers = self._exporters
        hosted = self._registry.find(request.model_name, request.model_version)
        hosted.metrics.request_began()
        record.readers = (hosted.metrics.request_ended, *self._exporters)
        engine, variant = hosted.serving()
        specs, task = accepted(request, variant), self._tasks[variant.task]
        if specs is variant.inputs:
            rows, inputs = read(request, specs, self._max_rows)
        else:
            rows, inputs = check(request, specs, self._max_rows), None
        finish = task.wanted(request, variant, hosted.metrics)
        return Checked(request, record, hosted, engine, variant, rows, inputs, finish)

    async def complete(self, checked: Checked) -> pb.ModelInferResponse:
        """Returns the response to a request that was checked; raises what `Residency.warm` raises, too."""
        if checked.engine is None:
            await self._warm(checked.hosted)
        inputs, sizes = checked.inputs, None
        if inputs is None:
            inputs, sizes = await self._images.read(
                checked.request, checked.variant, checked.hosted.metrics, checked.record.deadline
            )
        response = checked.respond(await answered(partial(checked.submit, inputs)), sizes)
        return response if isinstance(response, pb.ModelInferResponse) else await response
