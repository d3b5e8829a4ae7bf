"""One inference request from its message to the response, whichever call it came by.

Decodes, asks the engine of the variant, makes what its task answers, encodes. Errors are raised as domain errors.
Parameters that are unknown are ignored, as the protocol wants, except those that would silently change what the answer
means.
"""

from collections.abc import Mapping, Sequence

from protos.manifest import TaskName
from protos.tensors import check, encode_response, read
from protos.v1 import inference_pb2 as pb
from server.api.images import Images, accepted
from server.hosting.registry import Hosted, Registry
from server.observability.request_record import Exporter, RequestRecord
from server.tasks.task import Task


class Inference:
    """Answers for the variants of `registry`; a request holds at most `max_rows` rows."""

    def __init__(
        self,
        registry: Registry,
        max_rows: int,
        images: Images,
        tasks: Mapping[TaskName, Task],
        exporters: Sequence[Exporter] = (),
    ) -> None:
        self._registry, self._max_rows, self._images = registry, max_rows, images
        self._tasks, self._exporters = tasks, exporters

    async def answer(self, request: pb.ModelInferRequest, record: RequestRecord) -> pb.ModelInferResponse:
        """Returns the response, or raises the domain error that says why there is none; fills in `record`."""
        record.arrive(request)
        readers = list(self._exporters)
        try:
            hosted = self._registry.find(request.model_name, request.model_version)
            hosted.metrics.request_began()
            readers.insert(0, hosted.metrics.request_ended)
            response = await self._answer(request, hosted, record)
            record.end()
            return response
        except BaseException as error:
            record.end(error)
            raise
        finally:
            for read_record in readers:
                read_record(record)
            record.caller = None  # metrics keep the record for a while, and need not keep the call

    async def _answer(
        self, request: pb.ModelInferRequest, hosted: Hosted, record: RequestRecord
    ) -> pb.ModelInferResponse:
        engine, variant = hosted.serving()
        specs, task, sizes = accepted(request, variant), self._tasks[variant.task], None
        if specs is variant.inputs:
            rows, inputs = read(request, specs, self._max_rows)
            finish = task.wanted(request, variant, hosted.metrics)
        else:
            rows = check(request, specs, self._max_rows)
            finish = task.wanted(request, variant, hosted.metrics)
            inputs, sizes = await self._images.read(request, variant, hosted.metrics, record.deadline)
        record.admit(variant.model, variant.variant, rows)
        answer = await engine.infer(inputs, rows, record.deadline)
        record.take_answer(answer)
        outputs = answer.outputs if finish is None else await finish(answer.outputs, sizes)
        return encode_response(variant.model, variant.variant, outputs, request.id)
