"""A real `pareto-serve` process for tests: started on free ports, waited for, asked over real sockets, stopped."""

import asyncio
import contextlib
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import grpc
from prometheus_client.parser import text_string_to_metric_families

from protos.server_defaults import SMALLEST_BATCH
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""A metrics page: (name, sorted labels) to value."""

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
SERVER = (sys.executable, "-m", "server")


class ServerProcess:
    """One server: `grpc_address` and `metrics_address` are "host:port"; `log` is what it wrote so far."""

    def __init__(self, arguments: list[str], command: Sequence[str] = SERVER, root: Path = ROOT) -> None:
        self._process = subprocess.Popen([*command, *arguments], cwd=root, stderr=subprocess.PIPE, text=True)
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        """Everything on its standard error."""
        return "".join(self._lines)

    def wait_for_log(self, pattern: str, timeout: float = START_SECONDS) -> re.Match[str]:
        """The first match of `pattern` in the log, as soon as it is there."""
        with self._news:
            self._news.wait_for(lambda: re.search(pattern, self.log) or not self._reader.is_alive(), timeout)
        match = re.search(pattern, self.log)
        assert match, f"no '{pattern}' in the server's log:\n{self.log}"
        return match

    def wait_until_loaded(self) -> None:
        """Until start-up loading has finished; what could not be loaded is FAILED."""
        match = self.wait_for_log(r"serving grpc=(\S+) metrics=(\S+)")
        self.grpc_address, self.metrics_address = match[1], match[2]
        self.wait_for_log(r"variants are READY")

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = 60.0) -> int:
        """Its exit code, once it has ended and its log is complete."""
        code = self._process.wait(timeout)
        self._reader.join(timeout)
        return code

    def stop(self) -> int:
        """Ends it, by force where it does not drain in a minute; returns its exit code."""
        if self._process.poll() is None:
            self.signal()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self.wait()
        finally:
            if self._process.stderr is not None:
                self._process.stderr.close()

    @contextmanager
    def stub(self) -> Iterator[GRPCInferenceServiceStub]:
        """A client with a connection of its own."""
        with connect(self.grpc_address) as channel:
            yield GRPCInferenceServiceStub(channel)

    def metrics(self, *names: str) -> Samples:
        """The samples of its metrics page, of a few series where they are named."""
        return scrape(self.metrics_address, *names)


@contextmanager
def serving(
    repository: Path, *flags: str, ready: bool = True, program: str = "server", root: Path = ROOT
) -> Iterator[ServerProcess]:
    """A server of `repository` on free ports, loaded, and stopped at the end; `ready`: something must be READY.

    Its batches have up to `SMALLEST_BATCH` rows, whatever the machine would find, where `flags` say nothing of it;
    `program` is the module that is run, from the folder `root`.
    """
    server = ServerProcess(
        [
            *("--repository", str(repository), "--port", "0", "--metrics-port", "0", "--drain-notice", "0"),
            *("--batch-max", str(SMALLEST_BATCH), *flags),
        ],
        (sys.executable, "-m", program),
        root,
    )
    try:
        server.wait_until_loaded()
        if ready:
            with server.stub() as stub:
                assert stub.ServerReady(pb.ServerReadyRequest(), timeout=10).ready, server.log
        yield server
    finally:
        server.stop()


async def eventually(question: Callable[[], object], wanted: object = True, seconds: float = 30.0) -> None:
    """Asks until the answer is `wanted`: for what comes true in another thread or process and is told to nobody."""
    deadline = monotonic() + seconds
    while (answer := question()) != wanted:
        assert monotonic() < deadline, f"{answer!r} after {seconds} s, expected {wanted!r}"
        await asyncio.sleep(0.01)


def quiet_port() -> int:
    """Returns a port for a program that cannot say which one it got for port 0.

    It lies below those that the kernel gives out by itself, so that nobody gets it by chance before the program does.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(10_000, lowest), 100):
        with socket.socket() as found, contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def by_labels(page: Samples, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """The samples of one series, by the values of `labels`, those of 0 left out."""
    return {
        tuple(dict(pairs)[label] for label in labels): value
        for (series, pairs), value in page.items()
        if series == name and value
    }


def refusal(*arguments: str) -> str:
    """The one line with which a server says that it cannot be started, before it leaves with 2."""
    server = ServerProcess(["--port", "0", "--metrics-port", "0", *arguments])
    assert server.wait() == 2, server.log
    server.stop()
    (line,) = server.log.splitlines()
    return line


def connect(address: str) -> grpc.Channel:
    """A channel that shares its connection with no other."""
    return grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


def scrape(address: str, *names: str) -> Samples:
    """The samples of the metrics page at "host:port", of a few series where they are named."""
    query = "&".join(f"name[]={name}" for name in names)
    with urllib.request.urlopen(f"http://{address}/metrics?{query}", timeout=10) as response:
        text = response.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
