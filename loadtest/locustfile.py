"""What `locust -f` takes: the users of `loadtest.users.users`, and Locust's hooks that give them flags and payloads.

By hand, with Locust's own web page and everything else that Locust can do:

    locust -f loadtest/locustfile.py --host 127.0.0.1:8001 --model digits --variants int8-openvino
    locust -f loadtest/locustfile.py --host 127.0.0.1:8001 --model digits --rate 50   # open loop, for each user

`--processes 2` makes two workers beside the master; started by hand, workers may be on other machines. Our flags
(`$OURS`: `--model` to `--token-file`) go to each process, Locust's own (`$RUN`: `--headless -u 8 -t 30s --host
HOST:PORT`) to the master:

    locust -f loadtest/locustfile.py $RUN $OURS --processes 2
    locust -f loadtest/locustfile.py $RUN $OURS --master --expect-workers 2
    locust -f loadtest/locustfile.py $OURS --worker --master-host MASTER   # and another

A server with TLS, mutual TLS or tokens is reached by the flags of `loadtest.access`, `--tls-ca` to `--token-file`. The
master sends its flags to the workers, so that the files have to be at the same places everywhere.

`--rate` is what each user sends, on whichever worker it is; `loadtest/rampfile.py` lets the rate rise. For payloads of
your own, subclass `InferenceUser` (closed loop) or `PoissonUser` (open loop) in your own locustfile and give the class
`payloads`. Locust's statistics have whole milliseconds; `--samples FILE` keeps the raw samples.
"""

from loadtest.users.users import ArrivalUser, InferenceUser, PoissonUser, VariantUser  # before all else: see there

# isort: split
import errno
import io
import logging
import os
import tempfile
from argparse import Namespace
from contextlib import closing
from pathlib import Path
from time import perf_counter, time
from typing import NoReturn

from gevent import GreenletExit
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import MasterRunner, WorkerRunner

from loadtest.access import Access
from loadtest.client.credentials import Credentials, read_credentials
from loadtest.client.discovery import list_variants
from loadtest.client.oip import Client
from loadtest.client.payloads import Payload, make_inputs, make_payloads
from loadtest.plan import is_address
from loadtest.users.recorder import Recorder, Samples, load_samples, merge
from protos.errors import UsageError
from protos.support.atomic import new_file
from protos.support.options import add_flags, read

ROOM = 1 << 20
"""Bytes that `--samples` must have room for before any load: some 100,000 calls."""

__all__ = ["ArrivalUser", "InferenceUser", "PoissonUser", "VariantUser"]


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _add_flags(parser: LocustArgumentParser) -> None:
    group = parser.add_argument_group("ParetoServe")
    group.add_argument("--model", env_var="PARETO_MODEL", default="", help="model to load")
    group.add_argument("--variants", env_var="PARETO_VARIANTS", default="", help="separated by commas; else all")
    group.add_argument("--repository", env_var="PARETO_REPOSITORY", default="models", help="where golden inputs are")
    group.add_argument("--rate", env_var="PARETO_RATE", type=float, default=0.0, help="open loop: arrivals per second")
    group.add_argument("--deadline", env_var="PARETO_DEADLINE", type=float, default=10.0, help="seconds for each call")
    group.add_argument("--samples", env_var="PARETO_SAMPLES", default="", help="file for the raw samples, .npz")
    add_flags(group, Access)


@events.init.add_listener  # type: ignore[untyped-decorator]
def _obey_flags(environment: Environment, **_: object) -> None:
    """Takes users of the open loop with `--rate`, and keeps raw samples with `--samples`."""
    options = environment.parsed_options
    if options is not None and options.rate:
        ArrivalUser.rate = options.rate
        environment.user_classes = [ArrivalUser if user is VariantUser else user for user in environment.user_classes]
    if options is not None and options.samples:
        _SampleKeeper(environment, Path(options.samples.removesuffix(".npz") + ".npz"))


@events.test_start.add_listener  # type: ignore[untyped-decorator]
def _make_payloads(environment: Environment, **_: object) -> None:
    """Makes the payloads when a test starts: only then is the host known."""
    options = environment.parsed_options
    if options is None or not options.model:
        return
    try:
        given = Namespace(**{name: value or None for name, value in vars(options).items()})  # a page sends empty texts
        credentials = read_credentials(read(Access, given))
        payloads = _payloads(environment.host or "", options, credentials)
    except UsageError as error:
        _stop(environment, str(error))
    for user in (VariantUser, ArrivalUser):
        user.payloads, user.deadline, user.credentials = payloads, options.deadline, credentials


def _stop(environment: Environment, message: str) -> NoReturn:
    """Ends a test before its load, with the message as one line of Locust's log."""
    environment.process_exit_code = 2
    options = environment.parsed_options
    if isinstance(environment.runner, MasterRunner) and options and options.headless:  # a master lets StopTest pass
        logging.error(message)
        environment.runner.quit()
        raise GreenletExit
    raise StopTest(message) from None


class _SampleKeeper:
    """Keeps raw samples, due in seconds since 1970: a worker sends them in its reports, the master writes one file."""

    def __init__(self, environment: Environment, path: Path) -> None:
        self._recorder, self._environment, self._path, self._parts = Recorder(), environment, path, list[Samples]()
        events = environment.events
        events.request.add_listener(self._recorder.on_request)  # type: ignore[no-untyped-call]
        if isinstance(environment.runner, WorkerRunner):
            events.report_to_master.add_listener(self.send)  # type: ignore[no-untyped-call]
        else:
            events.test_start.add_listener(self.check)  # type: ignore[no-untyped-call]
            events.worker_report.add_listener(self.receive)  # type: ignore[no-untyped-call]
            events.quit.add_listener(self.save)  # type: ignore[no-untyped-call]  # `quitting` is before the last report

    def check(self, **_: object) -> None:
        """Ends a test whose samples could not be written in the end."""
        try:
            if self._path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            with tempfile.TemporaryFile(dir=self._path.parent, buffering=0) as file:
                file.write(bytes(ROOM))
        except OSError as error:
            _stop(self._environment, f"--samples: '{self._path}' cannot be written: {error.strerror}")

    def send(self, client_id: str, data: dict[str, object]) -> None:
        """Adds a worker's samples since its last report to its next one."""
        data["samples"] = self._take().to_bytes()

    def receive(self, client_id: str, data: dict[str, bytes]) -> None:
        """Takes the samples out of a worker's report."""
        if "samples" in data:
            self._parts.append(load_samples(io.BytesIO(data["samples"])))
        else:
            self._environment.process_exit_code = 2
            logging.error("worker %s has no --samples: its calls will be missing in '%s'", client_id, self._path)

    def save(self, **_: object) -> None:
        """Writes the file; where that fails, as on a full disk, one in the folder for temporary files."""
        samples = merge([*self._parts, self._take()])
        try:
            with new_file(self._path) as temporary, temporary.open("wb") as file:
                samples.save(file)
        except OSError as error:
            if not len(samples.rows):
                return
            kept = Path(tempfile.mkdtemp(prefix="locust-")) / self._path.name
            samples.save(kept)
            logging.error(
                "--samples: '%s' cannot be written: %s; '%s' has the samples", self._path, error.strerror, kept
            )
            raise SystemExit(2) from None

    def _take(self) -> Samples:
        taken = self._recorder.samples(perf_counter() - time(), (0.0, perf_counter()))
        self._recorder.clear()
        return taken


def _payloads(host: str, options: Namespace, credentials: Credentials) -> list[Payload]:
    if not is_address(host):
        raise UsageError(f"--host: got '{host}', expected HOST:PORT")
    with closing(Client(host, options.deadline, credentials)) as client:
        found = list_variants(client, options.model, tuple(filter(None, options.variants.split(","))))
    for variant, reason in found.skipped.items():
        logging.warning("variant %s is left out: %s", variant, reason)
    payloads = []
    for variant, metadata in found.ready.items():
        inputs = make_inputs(options.model, metadata, Path(options.repository), seed=0)
        payloads += make_payloads(options.model, variant, metadata, inputs)
    return payloads
