"""How one variant is served, as the protocol's ModelConfig says it: only what is true here.

Source: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from protos.manifest import TensorSpec
from protos.support.machine import measured
from protos.tasks.table import TASKS
from protos.v1 import inference_pb2 as pb
from server.execution.engine import limit_for
from server.execution.threads import Plan
from server.hosting.hosted import Hosted
from server.settings import Settings

_TYPES = {"BYTES": "STRING"}
"""Datatypes that ModelConfig names otherwise than the rest of the protocol."""


def describe(hosted: Hosted, plan: Plan, settings: Settings) -> pb.ModelConfig:
    """The configuration of a variant; `UnavailableError` unless it can be asked."""
    engine, variant = hosted.serving()
    outputs = TASKS[variant.task].outputs(variant)
    config = pb.ModelConfig(
        name=variant.model,
        platform=variant.runtime,
        backend=variant.runtime,
        max_batch_size=settings.max_rows,
        input=[pb.ModelInput(name=spec.name, data_type=_type(spec), dims=spec.shape[1:]) for spec in variant.inputs],
        output=[pb.ModelOutput(name=spec.name, data_type=_type(spec), dims=spec.shape[1:]) for spec in outputs],
        instance_group=[pb.ModelInstanceGroup(count=plan.workers, kind=pb.ModelInstanceGroup.KIND_CPU)],
    )
    limit = engine.limit if engine else limit_for(variant, settings.batch_limits())
    if limit.rows > 1:
        config.dynamic_batching.preferred_batch_size.append(limit.rows)
        config.dynamic_batching.max_queue_delay_microseconds = round(limit.delay * 1e6)
    parameters = {
        "variant": variant.variant,
        "recipe": variant.recipe.name,
        "precision": variant.precision,
        "measured": measured(variant.machine),
        "measured_on": variant.machine.processor,
        "threads": plan.threads,
        "queue_size": settings.queue_size,
    }
    for name, value in parameters.items():
        config.parameters[name].string_value = str(value)
    return config


def _type(spec: TensorSpec) -> pb.DataType.ValueType:
    return pb.DataType.Value(f"TYPE_{_TYPES.get(spec.datatype, spec.datatype)}")
