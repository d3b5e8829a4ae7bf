"""What a server has to offer, asked before any load: which variants of a model are ready, which are not."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from loadtest.client.oip import CallError, Client
from loadtest.client.payloads import DEFAULT_VARIANT, wire_version
from loadtest.interrupt import Sleep
from protos.errors import UsageError
from protos.v1 import inference_pb2 as pb


@dataclass(frozen=True)
class Survey:
    """The variants to measure with their metadata, and those that cannot be, each with its reason."""

    server: str
    ready: Mapping[str, pb.ModelMetadataResponse]
    skipped: Mapping[str, str]
    serving: Mapping[str, str] = field(default_factory=dict)
    """How variants are served, in a few words, where the server says it."""


POLL_SECONDS = 0.2

ANSWER_SECONDS = 1.0
"""What a server that is starting gets for its answer, before it is asked again."""


def wait_until_ready(client: Client, seconds: float, sleep: Sleep) -> None:
    """Returns as soon as the server says that it is ready, at the latest after `seconds`."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not client.server_ready(min(left, ANSWER_SECONDS)):
        sleep(POLL_SECONDS)


def survey(client: Client, model: str, wanted: Sequence[str] = ()) -> Survey:
    """Asks for the `wanted` variants of a model, or for all of them.

    `UsageError` where nobody answers, the model or a wanted variant is unknown, or none is ready.
    """
    try:
        server = client.server()
    except CallError as error:
        raise UsageError(f"the server does not answer: {error}") from error
    try:
        known = tuple(client.model(model).versions) or (DEFAULT_VARIANT,)
    except CallError as error:
        raise UsageError(f"model '{model}': {error}") from error
    if unknown := [variant for variant in wanted if variant not in known]:
        raise UsageError(f"variant '{unknown[0]}' of model '{model}' came, expected one of {', '.join(known)}")
    ready, skipped = dict[str, pb.ModelMetadataResponse](), dict[str, str]()
    for variant in wanted or known:
        try:
            if client.ready(model, wire_version(variant)):
                ready[variant] = client.model(model, wire_version(variant))
            else:
                skipped[variant] = "the server says that it is not ready"
        except CallError as error:
            skipped[variant] = str(error)
    if not ready:
        raise UsageError(f"no variant of model '{model}' is ready: {', '.join(skipped)}")
    return Survey(f"{server.name} {server.version}".strip(), ready, skipped, _serving(client, model, ready))


def _serving(client: Client, model: str, variants: Iterable[str]) -> dict[str, str]:
    texts = dict[str, str]()
    for variant in variants:
        try:
            config = client.config(model, wire_version(variant))
        except CallError:
            return {}  # it has no such extension
        threads = config.parameters["threads"].string_value
        batch = max(config.dynamic_batching.preferred_batch_size, default=1)
        engine = f"{threads} {'thread' if threads == '1' else 'threads'}, " if threads else ""
        texts[variant] = f"{engine}batches of at most {batch} rows" if batch > 1 else f"{engine}no batching"
    return texts
