"""Mutual TLS and a token, all the way: `run`, `doctor`, `locustfile.py` and `rampfile.py` against a real server."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.users.recorder import load_samples
from tests.support import certificates, toy
from tests.support.certificates import Pair
from tests.support.loadtest.runs import flags, loadtest, results_of, two_workers
from tests.support.processes import finished
from tests.support.serving import ServerProcess, serving

TOKEN = "token-that-nobody-may-see"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("access")
    (folder / "tokens").write_text(f"{TOKEN}\nanother\n")
    return folder


@pytest.fixture(scope="module")
def root(folder: Path) -> Pair:
    return certificates.authority(folder, "root")


@pytest.fixture(scope="module")
def locked(repository: Path, folder: Path, root: Pair) -> Iterator[ServerProcess]:
    """A server that asks for a certificate and a token."""
    pair = certificates.issue(root, folder, "server")
    mutual = ("--tls-cert", pair.certificate, "--tls-key", pair.key, "--tls-client-ca", root.certificate)
    with serving(repository, *map(str, mutual), "--token-file", str(folder / "tokens"), ready=False) as server:
        yield server


@pytest.fixture(scope="module")
def keys(folder: Path, root: Pair) -> dict[str, str]:
    """All flags that the server asks for."""
    mine = certificates.issue(root, folder, "client")
    files = {"--tls-ca": root.certificate, "--tls-client-cert": mine.certificate, "--tls-client-key": mine.key}
    return {flag: str(path) for flag, path in (files | {"--token-file": folder / "tokens"}).items()}


def given(keys: dict[str, str], *without: str) -> list[str]:
    return [text for flag, path in keys.items() if flag not in without for text in (flag, path)]


@pytest.mark.parametrize("transport", ["unary", "stream"])
def test_a_run_is_let_in_and_shows_its_token_to_nobody_else(
    transport: str, locked: ServerProcess, repository: Path, keys: dict[str, str], tmp_path: Path
) -> None:
    more = ("--users", "2", "--transport", transport, "--check-accuracy", *given(keys))
    done = loadtest(*flags(locked, repository, tmp_path / "run", *more))
    assert done.returncode == 0, done.stderr
    results = results_of(tmp_path / "run")
    assert all(cell["requests"] > 0 and cell["failures"] == 0 for cell in results["cells"])
    assert all(ceiling["rps"] > 0 for ceiling in results["ceilings"])  # the null server speaks TLS, too
    assert results["plan"]["token_file"] == keys["--token-file"]
    written = b"".join(path.read_bytes() for path in (tmp_path / "run").iterdir())
    assert TOKEN not in done.stdout + done.stderr
    assert TOKEN.encode() not in written


def test_a_run_is_made_again_with_the_files_that_its_plan_names(
    locked: ServerProcess, repository: Path, keys: dict[str, str], tmp_path: Path
) -> None:
    more = ("--users", "1", "--duration", "0.1", "--ceiling", "0", *given(keys))
    assert loadtest(*flags(locked, repository, tmp_path / "a", *more)).returncode == 0
    assert loadtest("replay", str(tmp_path / "a"), "--out", str(tmp_path / "b")).returncode == 0


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ((), "--tls-client-cert and --tls-client-key need each other, one of them is missing"),
        (("--token-file",), "the server does not answer: UNAUTHENTICATED: a valid bearer token is needed"),
        (("--tls-client-cert", "--tls-client-key"), "the server does not answer: UNAVAILABLE: "),
        (("--tls-ca",), "the server does not answer: UNAVAILABLE: "),
        (("--tls-ca", "--tls-client-cert", "--tls-client-key"), "the server does not answer: UNAVAILABLE: "),
    ],
)
def test_what_a_server_asks_for_and_does_not_get_is_one_line_before_the_load(
    without: tuple[str, ...],
    message: str,
    locked: ServerProcess,
    repository: Path,
    keys: dict[str, str],
    tmp_path: Path,
) -> None:
    mine = given(keys, *(without or ("--tls-client-key",)))
    done = loadtest(*flags(locked, repository, tmp_path / "run", *mine))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"pareto-loadtest: {message}")
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_is_let_in(locked: ServerProcess, repository: Path, keys: dict[str, str]) -> None:
    done = loadtest("doctor", locked.grpc_address, "--repository", str(repository), "--json", *given(keys))
    diagnosis = json.loads(done.stdout)
    assert (done.returncode, diagnosis["ready_for_load"], diagnosis["would_fail"]) == (0, True, [])
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.parametrize(("file", "load"), [("locustfile.py", two_workers()), ("rampfile.py", ("--rate", "20"))])
def test_users_by_hand_are_let_in(
    file: str, load: tuple[str, ...], locked: ServerProcess, repository: Path, keys: dict[str, str], tmp_path: Path
) -> None:
    run = ("--headless", "-u", "2", "-r", "2", "-t", "3s", "--host", locked.grpc_address, "--only-summary")
    ours = ("--model", toy.MODEL, "--repository", str(repository), "--samples", str(tmp_path / "raw.npz"))
    done = finished([sys.executable, "-m", "locust", "-f", f"loadtest/{file}", *run, *load, *ours, *given(keys)])
    assert done.returncode == 0, done.stderr
    rows = load_samples(tmp_path / "raw.npz").rows
    assert len(rows) > 0
    assert set(rows["status"]) == {0}
    assert TOKEN not in done.stdout + done.stderr


def test_users_by_hand_without_a_token_end_with_the_server_s_words(
    locked: ServerProcess, repository: Path, keys: dict[str, str]
) -> None:
    run = ("--headless", "-u", "1", "-t", "60s", "--host", locked.grpc_address, "-L", "WARNING", "--model", toy.MODEL)
    locust = [sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", *run]
    done = finished([*locust, *given(keys, "--token-file")])
    assert done.returncode == 2
    assert "UNAUTHENTICATED: a valid bearer token is needed" in done.stderr
    assert "Traceback" not in done.stderr
