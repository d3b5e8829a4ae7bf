"""The checks of `pareto-loadtest doctor`, in this order; `loadtest.doctor.variant_checks` has those of one variant.

    server      is it there, what does it call itself, is it ready
    around it   grpc.health.v1, reflection, the metrics page
    models      what each takes, which of its versions are ready, whether requests can be made for it
    a variant   the first that is ready: the extensions, its answers, its limits, and how it refuses

Nothing is ever loaded, unloaded or set.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from rich.console import Console
from rich.text import Text

from loadtest.client.credentials import read_credentials
from loadtest.client.failures import plain
from loadtest.client.metrics_page import ScrapeError, scrape
from loadtest.client.oip import way_in
from loadtest.client.payloads import DEFAULT_VARIANT, make_inputs, wire_version
from loadtest.doctor.findings import Diagnosis, Finding, Settings, make_finding
from loadtest.doctor.probe import OIP, Probe, Reply
from loadtest.doctor.variant_checks import ModelUnderTest, check_variant
from loadtest.interrupt import Sleep
from loadtest.plan import is_address
from protos.errors import UsageError
from protos.telemetry import REQUESTS
from protos.v1 import inference_pb2 as pb

SERVER = "server"
"""What findings on no model are about."""

HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
LOAD = "RepositoryModelLoadRequest"

MODELS, VERSIONS = 20, 32
"""The most models, and versions of one, that are asked about: what a server lists may have no end."""

SILENCE = ("UNAVAILABLE", "DEADLINE_EXCEEDED")
"""How all calls end where no server is."""

NO_REQUESTS = "requests cannot be made for it"

_on_server = partial(make_finding, SERVER)


def check_server(target: str, settings: Settings, console: Console, sleep: Sleep) -> Diagnosis:
    """Asks the server at `target` everything; findings go to `console` as they are made.

    `UsageError` where `target` is no address or nobody answers there, and whatever `sleep` raises.
    """
    if not is_address(target):
        raise UsageError(f"got '{target}', expected HOST:PORT")
    host, _, port = target.rpartition(":")
    findings: list[Finding] = []
    with (
        console.status(Text(f"connecting to {target}")) as status,
        Probe(target, settings.deadline, read_credentials(settings)) as probe,
    ):
        checks = _Checks(probe, settings, _find(probe, target))
        for finding in checks.all(host, int(port)):
            findings.append(finding)
            line = f"{finding.about}: {finding.what}: {finding.verdict}"
            if console.is_terminal:  # the findings are listed at the end
                status.update(Text(line))
            else:
                console.print(line, highlight=False, markup=False, soft_wrap=True)
            sleep(0)  # for a signal that was sent meanwhile
    answered = any(finding.what == "ModelInfer" and finding.verdict == "ok" for finding in findings)
    return Diagnosis(
        target=target,
        server=_name(checks.server),
        way_in=way_in(checks.server.message) if checks.server.message else "",
        model=checks.chosen.model if checks.chosen else None,
        ready_for_load=checks.ready and checks.server.message is not None and answered,
        findings=tuple(findings),
    )


@dataclass
class _Checks:
    """All checks of one server, and the variant that is checked closely: the first that is ready, else the first."""

    probe: Probe
    settings: Settings
    server: Reply[pb.ServerMetadataResponse]
    chosen: ModelUnderTest | None = None
    ready: bool = False

    def all(self, host: str, port: int) -> Iterator[Finding]:
        """Yields each finding as it is made."""
        extensions = self.server.message.extensions if self.server.message else ()
        yield from _server(self.probe, self.server)
        health = _health(self.probe, SERVER, "")
        yield health
        yield from _reflection(self.probe)
        yield _metrics(host, port + 1)
        models, finding = _models(self.probe, self.settings.model, extensions)
        yield finding
        for model in models:
            yield from self._model(model, health.verdict != "absent")
        if self.chosen is not None:
            yield from _extensions(self.chosen, extensions)
            yield from check_variant(self.chosen)

    def _model(self, model: str, has_health: bool) -> Iterator[Finding]:
        """Checks one model, and chooses its first variant that is ready."""
        metadata = self.probe.ask(pb.ModelMetadataRequest(name=model), pb.ModelMetadataResponse)
        if metadata.message is None:
            yield make_finding(model, "ModelMetadata", "fails", str(metadata), NO_REQUESTS)
            return
        takes, answers = _tensors(metadata.message.inputs), _tensors(metadata.message.outputs)
        yield make_finding(model, "ModelMetadata", "ok", f"takes {takes}; answers {answers}")
        variants = metadata.message.versions[:VERSIONS] or [DEFAULT_VARIANT]
        reasons = {variant: _why_not_ready(self.probe, model, variant) for variant in variants}
        yield _readiness(model, reasons)
        if has_health:
            yield _health(self.probe, model, model)
        variant = next((variant for variant, reason in reasons.items() if not reason), variants[0])
        try:
            tested, source = _model_under_test(self.probe, model, variant, self.settings)
        except UsageError as error:
            yield make_finding(model, "payload", "fails", str(error), NO_REQUESTS)
        else:
            yield make_finding(model, "payload", "ok", source)
            if self.chosen is None or not (self.ready or reasons[variant]):
                self.chosen, self.ready = tested, not reasons[variant]


def _find(probe: Probe, target: str) -> Reply[pb.ServerMetadataResponse]:
    """Returns what the server says of itself; `UsageError` where none of the first three calls is answered."""
    reply = probe.ask(pb.ServerMetadataRequest(), pb.ServerMetadataResponse)
    if reply.status in SILENCE:
        live = probe.ask(pb.ServerLiveRequest(), pb.ServerLiveResponse)
        ready = probe.ask(pb.ServerReadyRequest(), pb.ServerReadyResponse)
        if {live.status, ready.status} <= {*SILENCE}:
            raise UsageError(f"{target} does not answer: {plain(str(reply))}")
    return reply


def _name(server: Reply[pb.ServerMetadataResponse]) -> str:
    return plain(f"{server.message.name} {server.message.version}") if server.message else ""


def _server(probe: Probe, server: Reply[pb.ServerMetadataResponse]) -> Iterator[Finding]:
    if server.message is None:
        yield _on_server("ServerMetadata", "fails", str(server), "run asks for it first and stops there")
    else:
        listed = f"extensions: {', '.join(server.message.extensions) or 'none are listed'}"
        yield _on_server("ServerMetadata", "ok", f"{_name(server) or 'without a name'}; {listed}")
    live = probe.ask(pb.ServerLiveRequest(), pb.ServerLiveResponse)
    yield _yes("ServerLive", live, live.message is not None and live.message.live)
    ready = probe.ask(pb.ServerReadyRequest(), pb.ServerReadyResponse)
    yield _yes("ServerReady", ready, ready.message is not None and ready.message.ready, "run --wait waits in vain")


def _yes(what: str, reply: Reply[Any], said: bool, otherwise: str = "") -> Finding:
    if said:
        return _on_server(what, "ok", "yes")
    return _on_server(what, "fails", "no" if reply.message else str(reply), otherwise)


def _health(probe: Probe, about: str, service: str) -> Finding:
    reply = probe.ask(HealthCheckRequest(service=service), HealthCheckResponse, HEALTH)
    if reply.message is None:
        missing = reply.status == "UNIMPLEMENTED" or (reply.status == "NOT_FOUND" and service)
        return make_finding(about, "grpc.health.v1", "absent" if missing else "fails", str(reply))
    names = {number: name for name, number in HealthCheckResponse.ServingStatus.items()}
    status = names.get(reply.message.status, str(reply.message.status))
    return make_finding(about, "grpc.health.v1", "ok" if status == "SERVING" else "fails", status)


def _reflection(probe: Probe) -> Iterator[Finding]:
    """Finds services and dialect: Triton's and KServe's versions of the protocol differ in a few messages."""
    services = _reflect(probe, ServerReflectionRequest(list_services=""))
    if services.message is None:
        yield _on_server("reflection", "absent", str(services))
        yield _on_server("dialect", "absent", "without reflection, only the answers on a stream tell it")
        return
    names = [service.name for service in services.message.list_services_response.service]
    yield _on_server("reflection", "ok" if names else "fails", ", ".join(names) or "no service is listed")
    symbol = OIP.strip("/")
    described = _reflect(probe, ServerReflectionRequest(file_containing_symbol=symbol))
    files = described.message.file_descriptor_response.file_descriptor_proto if described.message else ()
    seen = _dialect(files)
    yield _on_server("dialect", "ok" if seen else "fails", seen or f"{symbol} is not described: {described}")


def _reflect(probe: Probe, request: ServerReflectionRequest) -> Reply[ServerReflectionResponse]:
    return probe.ask_on_stream([request], ServerReflectionResponse, REFLECTION)


def _dialect(files: Sequence[bytes]) -> str:
    """Says which dialect the files of a protocol describe; empty where they describe none."""
    try:
        described = [FileDescriptorProto.FromString(file) for file in files]
    except DecodeError:
        return ""
    methods = [method for file in described for service in file.service for method in service.method]
    loads = [load for file in described for load in file.message_type if load.name == LOAD]
    numbers = [field.number for load in loads for field in load.field if field.name == "model_name"]
    whose = defaultdict(lambda: "nobody's", {1: "KServe's", 2: "Triton's"})
    seen = [f"{m.name} answers {m.output_type.rpartition('.')[2]}" for m in methods if m.name == "ModelStreamInfer"]
    seen += [f"{LOAD}.model_name is field {number}, as {whose[number]}" for number in numbers]
    return "; ".join(seen)


def _metrics(host: str, port: int) -> Finding:
    what, means = f"metrics page on port {port}", "results have no server metrics, unless --metrics-url names the page"
    if port > 65535:
        return _on_server(what, "absent", "there is no such port", means)
    try:
        page = scrape(f"http://{host}:{port}/metrics")
    except ScrapeError as error:
        return _on_server(what, "absent", str(error), means)
    ours = page.total(REQUESTS.series[0]) is not None
    means = "" if ours else "none has a name that is known: results have no server metrics"
    return _on_server(what, "ok", f"{len(page.samples)} samples", means)


def _models(probe: Probe, named: str | None, extensions: Sequence[str]) -> tuple[list[str], Finding]:
    """Returns the models to ask about, each once. The index is needed only where none is named."""
    what, reply = "RepositoryIndex", probe.ask(pb.RepositoryIndexRequest(), pb.RepositoryIndexResponse)
    listed = list(dict.fromkeys(each.name for each in reply.message.models)) if reply.message else []
    seen = ", ".join(listed) or "no model is listed"
    if named:
        return [named], _extension(SERVER, what, reply, "model_repository", extensions, seen)
    if not listed:
        means = "which models there are is not known: name one with --model"
        return [], _on_server(what, "fails", seen if reply.message else str(reply), means)
    means = f"only the first {MODELS} of {len(listed)} were asked about" if len(listed) > MODELS else ""
    return listed[:MODELS], _on_server(what, "ok", seen, means)


def _tensors(tensors: Sequence[pb.ModelMetadataResponse.TensorMetadata]) -> str:
    return ", ".join(f"{tensor.name} {tensor.datatype} {list(tensor.shape)}" for tensor in tensors) or "nothing"


def _why_not_ready(probe: Probe, model: str, variant: str) -> str:
    """Says why a variant cannot answer; empty where it can."""
    reply = probe.ask(pb.ModelReadyRequest(name=model, version=wire_version(variant)), pb.ModelReadyResponse)
    if reply.message is None:
        return str(reply)
    return "" if reply.message.ready else "not ready"


def _readiness(model: str, reasons: dict[str, str]) -> Finding:
    ready = [variant for variant, reason in reasons.items() if not reason]
    left_out = [f"; {variant}: {reason}" for variant, reason in reasons.items() if reason]
    seen = f"{len(ready)} of {len(reasons)} versions: {', '.join(ready) or 'none'}{''.join(left_out)}"
    means = "run leaves out what is not ready" if left_out else ""
    return make_finding(model, "ModelReady", "fails" if left_out else "ok", seen, means)


def _model_under_test(probe: Probe, model: str, variant: str, settings: Settings) -> tuple[ModelUnderTest, str]:
    """Returns the variant with one row for it, and where that comes from; `UsageError` where none can be made."""
    request = pb.ModelMetadataRequest(name=model, version=wire_version(variant))
    reply = probe.ask(request, pb.ModelMetadataResponse)
    if reply.message is None:
        raise UsageError(f"{variant}: {reply}")
    inputs = make_inputs(model, reply.message, settings.repository, seed=0, form="tensor")
    return ModelUnderTest(probe, model, variant, reply.message, inputs.tensors[0]), inputs.source


def _extensions(tested: ModelUnderTest, listed: Sequence[str]) -> Iterator[Finding]:
    """Asks for the extensions that a load test's reader may want, whether listed or not."""
    name, version = tested.model, wire_version(tested.variant)
    config = tested.probe.ask(pb.ModelConfigRequest(name=name, version=version), pb.ModelConfigResponse)
    seen = f"max_batch_size {config.message.config.max_batch_size}" if config.message else ""
    yield _extension(tested.label, "ModelConfig", config, "model_configuration", listed, seen)
    counts = tested.probe.ask(pb.ModelStatisticsRequest(name=name, version=version), pb.ModelStatisticsResponse)
    seen = f"counts of {len(counts.message.model_stats)} versions" if counts.message else ""
    yield _extension(tested.label, "ModelStatistics", counts, "statistics", listed, seen)


def _extension(about: str, what: str, reply: Reply[Any], extension: str, listed: Sequence[str], seen: str) -> Finding:
    """Judges a call that belongs to an extension: one that is listed has to answer."""
    if reply.message is not None:
        return make_finding(about, what, "ok", seen)
    if any(name.startswith(extension) for name in listed):  # KServe calls it model_repository_extension
        return make_finding(about, what, "fails", f"listed as an extension, but {reply}")
    return make_finding(about, what, "absent" if reply.status == "UNIMPLEMENTED" else "fails", str(reply))
