"""The servers of a tuning: a `pareto-serve` for each configuration, all loaded and standing by at the same time.

Each serves a repository of links that has the one variant only, on two ports of 127.0.0.1, one above the other, as
`loadtest.client.discovery` looks for the metrics. Between its turns a server does nothing: no engine's threads spin for
longer than a moment. `PARETO_*` variables are kept from them: what is measured is what the flags say.
"""

import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from loadtest.interrupt import Sleep
from loadtest.measure import host
from loadtest.plan import Target
from loadtest.tune.candidates import DEFAULT, Configuration, counted
from protos import repository as files
from protos.errors import UsageError
from protos.manifest import Variant

HOST = "127.0.0.1"
LOWEST_PORT, HIGHEST_PORT = 10_000, 32_000
"""Kernels give the ports above to clients by themselves, so that one may be taken at any moment."""
TRIES = 3
"""How often a server is started whose ports somebody else has taken meanwhile."""
START_SECONDS, STOP_SECONDS, POLL_SECONDS = 120.0, 20.0, 0.05


class Server:
    """One server from its start on; `log` is a new file for what it says."""

    def __init__(self, configuration: Configuration, repository: Path, port: int, log: Path) -> None:
        self.configuration, self._log = configuration, log
        self.target = Target(configuration.name, f"{HOST}:{port}")
        address = ("--host", HOST, "--port", str(port), "--metrics-port", str(port + 1))
        command = ("-m", "server", "--repository", str(repository), *address, "--drain-notice", "0")
        with log.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-P", *command, *configuration.all_flags],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                env=_environment(),
            )

    def wait(self, sleep: Sleep) -> str:
        """Returns why it does not serve the variant, as soon as that is known; empty once it does."""
        end = time.monotonic() + START_SECONDS
        while True:
            ended, said = self.process.poll() is not None, self._log.read_text(errors="replace")
            loaded = re.search(r" (\d+) variants are READY", said)
            if ended or (loaded and loaded[1] == "0"):
                return _reason(said) or f"it ended with {self.process.returncode}"
            if loaded:
                return ""
            if time.monotonic() > end:
                return f"it was not ready within {START_SECONDS:g} s"
            sleep(POLL_SECONDS)


class Servers:
    """The servers that were started: those that serve, and why the others do not."""

    def __init__(self, repository: Path, folder: Path, ports: Iterator[int], sleep: Sleep) -> None:
        self.ready = dict[Configuration, Server]()
        self.left_out = dict[Configuration, str]()
        self._repository, self._folder, self._ports, self._sleep = repository, folder, ports, sleep
        self._all = list[Server]()

    def start_all(self, configurations: Sequence[Configuration], cores: int, say: Callable[[str], None]) -> None:
        """Starts the default's server, then the others', as many at once as there are cores; says how far it is.

        Raises `UsageError` where the default does not serve, or where the memory does not suffice for the others.
        """
        self.start([DEFAULT])
        if DEFAULT in self.left_out:
            raise UsageError(f"the default configuration does not serve the variant: {self.left_out[DEFAULT]}")
        others = [each for each in configurations if each != DEFAULT]
        check_memory(others, host.memory_of(self.ready[DEFAULT].process.pid).own, host.memory_left())
        for begin in range(0, len(others), cores):
            say(f"standing by: {len(self.ready)} of {len(configurations)} servers")
            self.start(others[begin : begin + cores])
        for configuration, reason in self.left_out.items():
            say(f"left out: {configuration.label}: {reason}")
        taken = sum(host.memory_of(server.process.pid).own for server in self.ready.values())
        say(f"standing by: {counted(len(self.ready), 'server')}, which take {taken / 1e6:,.0f} MB of memory")

    def start(self, configurations: Sequence[Configuration]) -> None:
        """Starts a server for each at once, and returns when it is known of all whether they serve."""
        for server in [self._launch(each) for each in configurations]:
            reason = server.wait(self._sleep)
            for _ in range(TRIES - 1):
                if "cannot be listened on" not in reason:
                    break
                server = self._launch(server.configuration)
                reason = server.wait(self._sleep)
            if reason:
                _stop([server])
                self.left_out[server.configuration] = reason
            else:
                self.ready[server.configuration] = server

    @property
    def target(self) -> str:
        """Returns the servers that serve, as `pareto-loadtest run --target` takes them; the default has no name."""
        targets = [server.target for server in self.ready.values()]
        return ",".join(f"{each.name}={each.address}" if each.name else each.address for each in targets)

    def memory(self, variant: str) -> dict[str, int]:
        """Returns the bytes that each server takes by now, by the name of its variant in results."""
        taken = {server: host.memory_of(server.process.pid).total for server in self.ready.values()}
        return {server.target.name_of(variant): count for server, count in taken.items() if count}

    def close(self) -> None:
        """Ends all of them."""
        _stop(self._all)

    def _launch(self, configuration: Configuration) -> Server:
        log = self._folder / f"{len(self._all)}.log"
        server = Server(configuration, self._repository, next(self._ports), log)
        self._all.append(server)
        return server


@contextmanager
def standing_by(
    repository: Path, model: str, variant: str, sleep: Sleep, ports: Iterator[int] | None = None
) -> Iterator[Servers]:
    """Yields servers of one variant, none of which is started yet; at the end of the block all of them have ended.

    `ports` yields ports that are free, as the next above each is (default: `free_ports`).
    """
    with tempfile.TemporaryDirectory(prefix="pareto-tune-") as folder:
        links = link_variant(repository, model, variant, Path(folder) / "models")
        servers = Servers(links, Path(folder), free_ports() if ports is None else ports, sleep)
        try:
            yield servers
        finally:
            servers.close()


def find_variant(repository: Path, model: str, variant: str) -> Variant:
    """Returns the manifest of a variant; `UsageError` where the repository has none that can be served."""
    if not repository.is_dir():
        raise UsageError(f"--repository: got '{repository}', expected a folder that exists")
    entries = {entry.name: entry for entry in files.scan_model(repository, model)}
    if not entries:
        raise UsageError(f"--model: got '{model}', expected a model of the repository '{repository}'")
    if variant not in entries:
        raise UsageError(f"--variant: got '{variant}', expected one of {', '.join(entries)}")
    entry = entries[variant]
    if entry.variant is None:
        raise UsageError(f"--variant: '{variant}' is broken: {entry.broken}")
    return entry.variant


def check_memory(configurations: Sequence[Configuration], default_bytes: int, left_bytes: float) -> None:
    """Raises `UsageError` where servers of these would take more memory than is left.

    Each of their processes is taken for as large as the default's one.
    """
    needed = default_bytes * sum(each.processes for each in configurations)
    if needed > left_bytes:
        raise UsageError(
            f"{counted(len(configurations), 'server')} beside the default take about {needed / 1e6:,.0f} MB of memory,"
            f" {left_bytes / 1e6:,.0f} MB are left: expected fewer values of --threads, --workers or --batch-max"
        )


def link_variant(repository: Path, model: str, variant: str, links: Path) -> Path:
    """Makes `links` a repository that has one variant of another as its model's default; returns it."""
    source, folder = (repository / model).resolve(), links / model
    folder.mkdir(parents=True)
    for name in (variant, files.GOLDEN):
        (folder / name).symlink_to(source / name)
    (folder / files.DEFAULT).write_text(f"{variant}\n")
    return links


def free_ports() -> Iterator[int]:
    """Yields ports that nobody listens on, nor on the next above, in random order."""
    for port in random.sample(range(LOWEST_PORT, HIGHEST_PORT, 2), (HIGHEST_PORT - LOWEST_PORT) // 2):
        if _is_free(port) and _is_free(port + 1):
            yield port


def _is_free(port: int) -> bool:
    with socket.socket() as found:
        try:
            found.bind((HOST, port))
        except OSError:
            return False
    return True


def _environment() -> Mapping[str, str]:
    """Returns the variables of a server: it imports what this process does, and takes no settings from them."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PARETO_")}
    return kept | {"PYTHONPATH": os.pathsep.join(sys.path)}


def _reason(said: str) -> str:
    """Returns the last line of a log that says why a variant or the server failed, or else its last line."""
    lines = said.splitlines()
    told = [match[1] for line in lines if (match := re.search(r"(?: FAILED: |^pareto-serve: )(.+)", line))]
    return (told or lines or [""])[-1].strip()


def _stop(servers: Sequence[Server]) -> None:
    """Asks servers to end, and ends by force those that do not within `STOP_SECONDS`."""
    end = time.monotonic() + STOP_SECONDS
    for server in servers:
        server.process.terminate()
    for server in servers:
        try:
            server.process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()
