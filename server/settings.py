"""What `pareto-serve` can be told: one dataclass, of which `protos.support.options` makes flags, variables and help."""

import argparse
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from protos import server_defaults
from protos.errors import UsageError
from protos.manifest import MOST_PIXELS
from protos.stores import store
from protos.support import options, program
from protos.support.options import Number
from server.execution.batcher import BatchLimit, make_limits


def _number(default: Number, low: Number, high: Number) -> Number:
    """A field whose value lies in `low`..`high`."""
    return field(default=default, metadata=options.between(low, high))


_FOLDER_OR_URL: options.Rule = {
    "convert": lambda text: text if store.is_url(text) else Path(text),
    "accepts": lambda place: isinstance(place, str) or place.is_dir(),  # a URL may hold what must not be quoted
    "expected": options.EXISTING_FOLDER["expected"],
    "metavar": "DIR|URL",
}


@dataclass(frozen=True)
class Settings:
    """All settings of one server; each field's docstring is its help text."""

    repository: Path | str = field(default=Path("models"), metadata=_FOLDER_OR_URL)
    """The folder of built variants, or the URL where they are kept: s3://, gs://, hf:// or oci:// (an extra each);
    serve only one that you trust, since artifacts are native code."""
    repository_cache: Path | None = None
    """Where copies of repositories at a URL are kept; without it paretoserve in XDG_CACHE_HOME, or in ~/.cache."""
    only: tuple[str, ...] = field(default=(), metadata={"metavar": "MODEL[/VARIANT],..."})
    """What of the repository is served, the rest is as if it were not there; all of it by default."""
    host: str = field(default="127.0.0.1", metadata={"metavar": "ADDRESS"})
    """The address to listen on, for gRPC and for metrics; 0.0.0.0 for all of IPv4."""
    port: int = _number(8001, 0, 65535)
    """The port for gRPC; 0 takes a free one, which the log names."""
    metrics_port: int = _number(8002, 0, 65535)
    """The port of the metrics page; 0 takes a free one, which the log names."""
    front: Literal["grpcio", "native"] = "grpcio"
    """What takes ModelInfer from the port: gRPC's Python library, or pygrpc-native (the extra `fast`), which costs less
    and bounds neither messages nor what they unpack to: for trusted networks, without TLS and tokens."""
    threads: int = _number(server_defaults.THREADS, 1, 1024)
    """Threads that one execution of an engine uses; as many run at once as the available cores hold."""
    workers: int = _number(server_defaults.WORKERS, 1, 1024)
    """Processes that share the port; workers x threads have to fit the available cores."""
    max_rows: int = _number(64, 1, 65536)
    """Rows that one request may hold."""
    batch_max: int = _number(server_defaults.BATCH_MAX, 0, 65536)
    """Rows of one execution: requests that wait are executed together up to it; 1 executes each by itself; 0 finds for
    each variant, when it is loaded, from how many rows on (16 to 64) larger batches gain nothing."""
    batch_delay: float = _number(0.0, 0.0, 10.0)
    """Seconds that a request may wait for others to join it, where others are likely to come; 0 takes what waits."""
    max_memory: float | None = field(default=None, metadata=options.MEGABYTES)
    """The most resident memory of the server, shared out among its workers. Variants are loaded when they are first
    asked for, and those not asked for longest leave memory for others; by default all are loaded at the start."""
    pin: tuple[str, ...] = field(default=(), metadata={"metavar": "MODEL[/VARIANT],..."})
    """With --max-memory: models or variants that are loaded at the start, and stay."""
    cold_wait: float = _number(10.0, 0.0, 3600.0)
    """With --max-memory: seconds that a request waits for its variant to be loaded; then, with 0 at once, it is told
    UNAVAILABLE and when to come again."""
    batch: tuple[str, ...] = field(default=(), metadata={"metavar": "MODEL=ROWS,..."})
    """Limits of one model or variant, as MODEL=ROWS, MODEL/VARIANT=ROWS or either with :SECONDS for the delay."""
    queue_size: int = _number(128, 1, 1_000_000)
    """Requests that may wait for one variant; the next one is refused at once."""
    stream_requests: int = _number(64, 1, 65536)
    """Requests of one stream that may be under way; no more are read until one is answered."""
    ping_interval: float = _number(0.1, 0.0, 3600.0)
    """Seconds between two keep-alive pings of a client, in a call or not, below which the later one is a strike."""
    ping_strikes: int = _number(2, 0, 1000)
    """Strikes after which a connection that has had no data meanwhile is closed by the next one; 0 never closes any."""
    max_message_bytes: int = _number(64 * 1024 * 1024, 1024, 2**31 - 1)
    """Bytes that one message may hold, in either direction."""
    max_image_pixels: int = _number(MOST_PIXELS, 1, 2**31 - 1)
    """Pixels that one image may unpack to; a larger one is refused before it is unpacked."""
    watch: float = _number(0.0, 0.0, 3600.0)
    """Seconds between two looks at the repository for variants that were published, changed or removed; 0 is never."""
    allow_repository_control: bool = False
    """Lets clients load and unload models; without it they are told FAILED_PRECONDITION."""
    drain_notice: float = _number(0.5, 0.0, 3600.0)
    """Seconds between the health turning NOT_SERVING and the first refused request, at the end."""
    drain_timeout: float = _number(30.0, 0.0, 3600.0)
    """Seconds that accepted requests get to finish, at the end."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least grave messages that are logged; debug has a line for each request."""
    log_format: Literal["text", "json"] = "text"
    """Lines for a person, or one JSON object a line."""
    tls_cert: Path | None = field(default=None, metadata=options.EXISTING_FILE)
    """The server's certificate chain (PEM), which makes gRPC TLS; read again when it changes, as the files below."""
    tls_key: Path | None = field(default=None, metadata=options.EXISTING_FILE)
    """The private key (PEM, without password) of --tls-cert."""
    tls_client_ca: Path | None = field(default=None, metadata=options.EXISTING_FILE)
    """Certificates (PEM) of the authorities that clients have to be certified by: mutual TLS."""
    token_file: Path | None = field(default=None, metadata=options.EXISTING_FILE)
    """Bearer tokens, one a line: a call has to bring one, unless it asks for the health. Use with TLS only."""
    trace: str = field(default="", metadata={"metavar": "URL"})
    """Where to send OpenTelemetry traces (OTLP over gRPC), such as http://127.0.0.1:4317; OTEL_* variables hold too."""

    def __post_init__(self) -> None:
        """Raises `UsageError` for settings that contradict each other."""
        self.batch_limits()
        if self.allow_repository_control and self.workers > 1:
            raise UsageError("--allow-repository-control needs --workers 1: a call reaches one worker; --watch, all")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("--tls-cert and --tls-key need each other, one of them is missing")
        if self.pin and self.max_memory is None:
            raise UsageError("--pin needs --max-memory: without it every variant stays in memory")
        if self.front == "native" and (self.tls_cert or self.token_file):
            raise UsageError("--front native has neither TLS nor tokens: got --tls-cert or --token-file, expected none")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise UsageError("--tls-client-ca needs --tls-cert and --tls-key")

    def batch_limits(self) -> dict[str, BatchLimit]:
        """Returns what `make_limits` makes of the three settings; raises `UsageError`."""
        # A variant that a request waits for is not timed first.
        rows = self.batch_max if self.max_memory is None else self.batch_max or server_defaults.SMALLEST_BATCH
        return make_limits(rows, self.batch_delay, self.batch)


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings that flags and `PARETO_*` variables ask for; raises `UsageError`."""
    settings = options.read(Settings, make_parser().parse_args(arguments), environment, "PARETO_")
    if isinstance(settings.repository, str):
        _check_url(settings.repository)
    elif not settings.repository.is_dir():  # the default, which `read` takes as it is
        raise UsageError(f"--repository: got '{settings.repository}', expected a folder that exists")
    return settings


def _check_url(url: str) -> None:
    try:
        store.check(url)
    except UsageError as error:
        raise UsageError(f"--repository: {error}") from None


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the program's flags; it raises `UsageError` where they do not fit."""
    parser = _Parser(
        prog="pareto-serve",
        description="Serves every variant of a repository behind the Open Inference Protocol (gRPC).",
        epilog="Each option can also be given as an environment variable: --queue-size as PARETO_QUEUE_SIZE.",
        allow_abbrev=False,
    )
    program.add_version(parser)
    options.add_flags(parser, Settings)
    return parser


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing the usage and leaving."""

    def error(self, message: str) -> typing.NoReturn:
        """Raises `UsageError` with argparse's message."""
        raise UsageError(message)
