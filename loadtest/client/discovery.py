"""Discovery, before any load: each variant of the model on each server of the plan, and what is known of it.

Servers beside the first have a name, which stands behind their variants': `int8-openvino @ triton`.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from loadtest.client.credentials import PLAIN, Credentials
from loadtest.client.failures import plain
from loadtest.client.metrics_page import Facts, Page, ScrapeError, scrape
from loadtest.client.oip import CallError, Client, way_in
from loadtest.client.payloads import DEFAULT_VARIANT, wire_version
from loadtest.interrupt import Sleep
from loadtest.plan import Plan, Target
from protos.errors import UsageError
from protos.manifest import Variant
from protos.repository import scan_model
from protos.v1 import inference_pb2 as pb

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2

ANSWER_SECONDS = 1.0
"""A server that is starting is asked again after this long without an answer."""


@dataclass(frozen=True)
class ServedVariant:
    """One variant on one server."""

    variant: str
    """The server's name for it."""
    target: Target
    metadata: pb.ModelMetadataResponse
    metrics_url: str | None
    facts: Facts


@dataclass(frozen=True)
class Discovery:
    """All variants of a run, by their names in the results."""

    by_name: Mapping[str, ServedVariant]
    skipped: Mapping[str, str]
    """Why each other variant cannot be measured."""
    servers: tuple[str, ...]
    """What the servers call themselves, in the plan's order."""
    ways_in: tuple[str, ...]
    """`oip.way_in` of those that are ours, each but the first server's behind its name."""
    no_figures: Mapping[str, str]
    """Why a server has no metrics page, by the address of each that has none."""

    @property
    def facts(self) -> dict[str, Facts]:
        """Returns what is known of each variant."""
        return {name: served.facts for name, served in self.by_name.items()}


@dataclass(frozen=True)
class Listing:
    """The variants of a model on one server: the ready ones with their metadata, the others with the reason."""

    server: pb.ServerMetadataResponse
    ready: Mapping[str, pb.ModelMetadataResponse]
    skipped: Mapping[str, str]


def discover(plan: Plan, sleep: Sleep, credentials: Credentials = PLAIN) -> Discovery:
    """Waits for the servers, then asks each for its variants; raises `UsageError` as `list_variants` does."""
    by_name, skipped = dict[str, ServedVariant](), dict[str, str]()
    servers, ways_in, no_figures, manifests = list[str](), list[str](), dict[str, str](), _manifests(plan)
    for target in plan.targets:
        with closing(Client(target.address, plan.deadline, credentials)) as client:
            wait_until_ready(client, plan.wait, sleep)
            found = list_variants(client, plan.model, () if target.name else plan.variants)
            serving = {variant: _serving(client, plan.model, variant) for variant in found.ready}
        url, page = _metrics_page(plan, target, no_figures)
        for variant, metadata in found.ready.items():
            facts = page.facts(plan.model, variant) if page else Facts()
            facts = _with_manifest(replace(facts, serving=serving[variant]), manifests.get(variant))
            by_name[target.name_of(variant)] = ServedVariant(variant, target, metadata, url, facts)
        for variant, reason in found.skipped.items():
            skipped[target.name_of(variant)] = reason
            logger.warning("variant '%s' is left out: %s", target.name_of(variant), reason)
        servers.append(f"{found.server.name} {found.server.version}".strip())
        if way := way_in(found.server, plan.transport):
            ways_in.append(target.name_of(way))
    return Discovery(by_name, skipped, tuple(servers), tuple(ways_in), no_figures)


def wait_until_ready(client: Client, seconds: float, sleep: Sleep, clock: Callable[[], float] = time.monotonic) -> None:
    """Returns as soon as the server says that it is ready, at the latest after `seconds`."""
    end = clock() + seconds
    while (left := end - clock()) > 0 and not client.server_ready(min(left, ANSWER_SECONDS)):
        sleep(POLL_SECONDS)


def list_variants(client: Client, model: str, wanted: Sequence[str] = ()) -> Listing:
    """Asks a server for the `wanted` variants of a model, or for all of them.

    Raises `UsageError` where nobody answers, the model or a wanted variant is unknown, or none is ready.
    """
    try:
        server = client.server()
    except CallError as error:
        raise UsageError(f"the server does not answer: {plain(str(error))}") from error
    try:
        known = tuple(client.model(model).versions) or (DEFAULT_VARIANT,)
    except CallError as error:
        raise UsageError(f"model '{model}': {plain(str(error))}") from error
    if unknown := [variant for variant in wanted if variant not in known]:
        raise UsageError(f"model '{model}': got variant '{unknown[0]}', expected one of {', '.join(known)}")
    ready, skipped = dict[str, pb.ModelMetadataResponse](), dict[str, str]()
    for variant in wanted or known:
        try:
            if client.ready(model, wire_version(variant)):
                ready[variant] = client.model(model, wire_version(variant))
            else:
                skipped[variant] = "the server says that it is not ready"
        except CallError as error:
            skipped[variant] = plain(str(error))
    if not ready:
        raise UsageError(f"no variant of model '{model}' is ready: {', '.join(skipped)}")
    return Listing(server, ready, skipped)


def _serving(client: Client, model: str, variant: str) -> str | None:
    """Returns how a variant is served, in a few words; None where the server lacks the extension that says so."""
    try:
        config = client.config(model, wire_version(variant))
    except CallError:
        return None
    threads = config.parameters["threads"].string_value
    batch = max(config.dynamic_batching.preferred_batch_size, default=1)
    engine = f"{threads} {'thread' if threads == '1' else 'threads'}, " if threads else ""
    return f"{engine}batches of at most {batch} rows" if batch > 1 else f"{engine}no batching"


def _metrics_page(plan: Plan, target: Target, no_figures: dict[str, str]) -> tuple[str | None, Page | None]:
    """Reads the page of `--metrics-url`, which must be there, or else at the port above the target's, if it is there.

    Returns its address too. Where there is no page, `no_figures` gets the reason.
    """
    given = None if target.name else plan.metrics_url
    host, _, port = target.address.rpartition(":")
    url = given or f"http://{host}:{int(port) + 1}/metrics"
    try:
        return url, scrape(url)
    except ScrapeError as error:
        if given:
            raise UsageError(f"--metrics-url: {error}") from error
        no_figures[target.address] = str(error)
        logger.warning("no server-side figures: %s; --metrics-url says where the page is", error)
        return None, None


def _manifests(plan: Plan) -> dict[str, Variant]:
    """Returns the manifests of the model that the repository holds, by variant."""
    entries = scan_model(plan.repository, plan.model) if plan.repository.is_dir() else []
    return {entry.name: entry.variant for entry in entries if entry.variant}


def _with_manifest(facts: Facts, manifest: Variant | None) -> Facts:
    """Adds what the manifest says: memory, and the intervals of the quality, which no server exports."""
    if manifest is None:
        return facts
    if manifest.footprint:
        facts = replace(facts, memory_bytes=manifest.footprint.load_peak_bytes)
    known = manifest.quality
    if known is None or known.value != facts.quality:
        return facts
    return replace(facts, quality_interval=known.interval, drop_interval=known.drop_interval)
