"""One inference request from its message to the response, whichever call it came by.

Decodes, asks the engine of the variant, encodes. Errors are raised as domain errors. Parameters that are
unknown are ignored, as the protocol wants, except those that would silently change what the answer means.
"""

from collections.abc import Sequence

from protos.errors import InvalidInputError
from protos.manifest import Variant
from protos.tensors import SHARED_MEMORY, check, encode_response, read
from protos.v1 import inference_pb2 as pb
from server.api.classification import classify, wanted
from server.api.images import Images, accepted
from server.hosting.registry import Hosted, Registry
from server.observability.request_record import Exporter, RequestRecord


class Inference:
    """Answers for the variants of `registry`; a request holds at most `max_rows` rows."""

    def __init__(self, registry: Registry, max_rows: int, images: Images, exporters: Sequence[Exporter] = ()) -> None:
        self._registry, self._max_rows, self._images, self._exporters = registry, max_rows, images, exporters

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
        specs = accepted(request, variant)
        if specs is variant.inputs:
            rows, inputs = read(request, specs, self._max_rows)
            names = _outputs(request, variant)
        else:
            rows, names = check(request, specs, self._max_rows), _outputs(request, variant)
            inputs = await self._images.read(request, variant, hosted.metrics, record.deadline)
        record.admit(variant.model, variant.variant, rows)
        answer = await engine.infer(inputs, rows, record.deadline)
        record.take_answer(answer)
        outputs = {name: answer.outputs[name] for name in names}
        for name, count in names.items():
            if count:  # classes were asked for in the place of numbers
                outputs[name] = await classify(outputs[name], count, variant.labels)
        return encode_response(variant.model, variant.variant, outputs, request.id)


def _outputs(request: pb.ModelInferRequest, variant: Variant) -> dict[str, int]:
    """The outputs that the request wants, all where it names none; and how many classes of each, 0 for its numbers."""
    known = [spec.name for spec in variant.outputs]
    if not request.outputs:
        return dict.fromkeys(known, 0)
    if len(request.outputs) > len(known):  # a message has room for millions
        raise InvalidInputError(f"got {len(request.outputs)} outputs, expected at most one for each of {known}")
    for output in request.outputs:
        if output.name not in known:
            raise InvalidInputError(f"got output '{output.name}', expected one of {known}")
        if SHARED_MEMORY in output.parameters:
            raise InvalidInputError(f"output '{output.name}': got shared memory, which is not supported, expected none")
    return {output.name: wanted(output) for output in request.outputs}
