"""What is measured: each variant of the model on each server that the plan names, asked for before any load.

Servers beside the first have a name, which stands behind their variants': `int8-openvino @ triton`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace

from loadtest.client.metrics_page import Facts, Page, ScrapeError, scrape
from loadtest.client.oip import Client
from loadtest.client.survey import Survey, survey, wait_until_ready
from loadtest.interrupt import Sleep
from loadtest.plan import Plan, Target
from protos.errors import UsageError
from protos.repository import scan_model
from protos.v1 import inference_pb2 as pb

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metrics:
    """A server's metrics page, if it has one."""

    url: str | None
    missing: str | None = None
    """Why there is none."""

    def read(self) -> Page | None:
        """The page now; None where the server has none or is gone."""
        if self.url is None:
            return None
        try:
            return scrape(self.url)
        except ScrapeError as error:
            logger.warning("%s", error)
            return None


@dataclass(frozen=True)
class Subject:
    """One variant on one server."""

    variant: str
    """As the server calls it."""
    target: Target
    metadata: pb.ModelMetadataResponse
    metrics: Metrics
    facts: Facts


@dataclass(frozen=True)
class Subjects:
    """All of a run, by the names that results know them by."""

    by_name: Mapping[str, Subject]
    skipped: Mapping[str, str]
    """Those that cannot be measured, each with the reason."""
    servers: tuple[str, ...]
    """What the servers call themselves, in the plan's order."""

    @property
    def metrics(self) -> tuple[Metrics, ...]:
        """The page of each server that has a variant to measure."""
        return tuple(dict.fromkeys(subject.metrics for subject in self.by_name.values()))


def find(plan: Plan, sleep: Sleep) -> Subjects:
    """Waits for the servers, asks them what they have, and what is known of it.

    `UsageError` where nobody answers, the model or a wanted variant is unknown, or none is ready.
    """
    by_name, skipped, servers = dict[str, Subject](), dict[str, str](), list[str]()
    for target in plan.targets:
        found, metrics = _survey(plan, target, sleep), _metrics(plan, target)
        facts = _facts(plan, found, metrics.read())
        for variant, metadata in found.ready.items():
            by_name[target.name_of(variant)] = Subject(variant, target, metadata, metrics, facts[variant])
        for variant, reason in found.skipped.items():
            skipped[target.name_of(variant)] = reason
            logger.warning("variant '%s' is left out: %s", target.name_of(variant), reason)
        servers.append(found.server)
    return Subjects(by_name, skipped, tuple(servers))


def _survey(plan: Plan, target: Target, sleep: Sleep) -> Survey:
    client = Client(target.address, plan.deadline)
    try:
        wait_until_ready(client, plan.wait, sleep)
        return survey(client, plan.model, () if target.name else plan.variants)
    finally:
        client.close()


def _metrics(plan: Plan, target: Target) -> Metrics:
    """The page that was asked for, which must be there; or the one above the target's port, which may be."""
    if plan.metrics_url and not target.name:
        try:
            scrape(plan.metrics_url)
        except ScrapeError as error:
            raise UsageError(f"--metrics-url: {error}") from error
        return Metrics(plan.metrics_url)
    host, _, port = target.address.rpartition(":")
    url = f"http://{host}:{int(port) + 1}/metrics"
    try:
        scrape(url)
    except ScrapeError as error:
        missing = f"no server-side figures: {error}; --metrics-url says where the page is"
        logger.warning("%s", missing)
        return Metrics(None, missing)
    return Metrics(url)


def _facts(plan: Plan, found: Survey, page: Page | None) -> dict[str, Facts]:
    """What is said about each variant: by the metrics page, by its configuration, and by its manifest."""
    entries = scan_model(plan.repository, plan.model) if plan.repository.is_dir() else []
    manifests = {entry.name: entry.variant for entry in entries}
    facts = {}
    for variant in found.ready:
        said, manifest = page.facts(plan.model, variant) if page else Facts(), manifests.get(variant)
        taken = manifest.footprint.load_peak_bytes if manifest and manifest.footprint else None
        facts[variant] = replace(said, memory_bytes=taken, serving=found.serving.get(variant))
    return facts
