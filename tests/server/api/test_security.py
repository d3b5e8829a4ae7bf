"""TLS, mutual TLS and tokens against a real server: who gets in, who does not, and files that change."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from protos.errors import UsageError
from protos.tensors import encode_request
from protos.v1 import inference_pb2 as pb
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from server.api.security import CHECK_SECONDS, credentials
from server.settings import Settings
from tests.support import certificates, toy
from tests.support.certificates import Pair
from tests.support.server.standins import running
from tests.support.serving import ServerProcess, eventually, scrape, serving

UNAVAILABLE, UNAUTHENTICATED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED
REQUEST = encode_request("toy", "", {"input": toy.images(1)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def root(folder: Path) -> Pair:
    return certificates.authority(folder, "root")


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Pair:
    """An authority that nobody trusts."""
    return certificates.authority(folder, "stranger")


def tls(pair: Pair, client_ca: Pair | None = None) -> list[str]:
    mutual = ["--tls-client-ca", str(client_ca.certificate)] if client_ca else []
    return ["--tls-cert", str(pair.certificate), "--tls-key", str(pair.key), *mutual]


def code(address: str, channel_credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    """How one request of a new client ends."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    if channel_credentials is None:
        channel = grpc.insecure_channel(address, options)
    else:
        channel = grpc.secure_channel(address, channel_credentials, options)
    with channel:
        try:
            assert GRPCInferenceServiceStub(channel).ModelInfer(REQUEST, timeout=20).model_name == "toy"
        except grpc.RpcError as error:
            ended: grpc.StatusCode = error.code()
            return ended
    return grpc.StatusCode.OK


@contextmanager
def secured(repository: Path, *flags: str) -> Iterator[ServerProcess]:
    """A server of which the plain question whether it is ready cannot be asked."""
    with serving(repository, *flags, ready=False) as server:
        yield server


@pytest.fixture(scope="module")
def tls_server(repository: Path, folder: Path, root: Pair) -> Iterator[ServerProcess]:
    with secured(repository, *tls(certificates.issue(root, folder, "server"))) as server:
        yield server


@pytest.fixture(scope="module")
def mutual_server(repository: Path, folder: Path, root: Pair) -> Iterator[ServerProcess]:
    with secured(repository, *tls(certificates.issue(root, folder, "mutual"), root)) as server:
        yield server


def answered(server: ServerProcess) -> float:
    """Requests that reached the model."""
    return sum(value for (name, _), value in server.metrics().items() if name == "pareto_requests_total")


def test_a_client_that_trusts_the_authority_gets_in(tls_server: ServerProcess, root: Pair) -> None:
    before = answered(tls_server)
    assert code(tls_server.grpc_address, root.trusted) == grpc.StatusCode.OK
    assert answered(tls_server) == before + 1


def test_a_plain_client_and_one_of_another_authority_do_not(tls_server: ServerProcess, stranger: Pair) -> None:
    before = answered(tls_server)
    assert code(tls_server.grpc_address, None) == UNAVAILABLE
    assert code(tls_server.grpc_address, stranger.trusted) == UNAVAILABLE
    assert answered(tls_server) == before


def test_a_client_does_not_take_an_expired_certificate(repository: Path, folder: Path, root: Pair) -> None:
    with secured(repository, *tls(certificates.issue(root, folder, "expired", days=-1))) as server:
        assert code(server.grpc_address, root.trusted) == UNAVAILABLE


def test_mutual_tls_lets_in_whom_its_authority_knows(mutual_server: ServerProcess, folder: Path, root: Pair) -> None:
    client = certificates.issue(root, folder, "client")
    assert code(mutual_server.grpc_address, client.channel(root)) == grpc.StatusCode.OK


def test_mutual_tls_keeps_out_everyone_else(
    mutual_server: ServerProcess, folder: Path, root: Pair, stranger: Pair
) -> None:
    before = answered(mutual_server)
    without = root.trusted
    unknown = certificates.issue(stranger, folder, "unknown").channel(root)
    expired = certificates.issue(root, folder, "expired-client", days=-1).channel(root)
    ends = [code(mutual_server.grpc_address, shown) for shown in (without, unknown, expired, None)]
    assert ends == [UNAVAILABLE] * 4
    assert answered(mutual_server) == before
    assert "Traceback" not in mutual_server.log


def copy(pair: Pair, target: Pair) -> None:
    """Puts the files of `pair` in the place of those of `target`, each at once, the certificate first."""
    for source, path in ((pair.certificate, target.certificate), (pair.key, target.key)):
        new = path.with_suffix(".new")
        new.write_bytes(source.read_bytes())
        new.replace(path)


def test_certificates_are_rotated_while_it_serves_and_connections_last(
    repository: Path, tmp_path: Path, root: Pair, stranger: Pair, folder: Path
) -> None:
    used = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    copy(certificates.issue(root, folder, "first"), used)
    with secured(repository, *tls(used)) as server:
        with grpc.secure_channel(server.grpc_address, root.trusted) as channel:
            stub = GRPCInferenceServiceStub(channel)
            assert stub.ModelInfer(REQUEST, timeout=20).model_name == "toy"
            copy(certificates.issue(stranger, folder, "second"), used)
            assert code(server.grpc_address, stranger.trusted) == grpc.StatusCode.OK
            assert code(server.grpc_address, root.trusted) == UNAVAILABLE
            assert stub.ModelInfer(REQUEST, timeout=20).model_name == "toy"
        server.wait_for_log("read again")
        assert str(used.key.read_text()) not in server.log


def test_files_that_do_not_fit_leave_the_last_good_ones_in_use_until_they_do(
    repository: Path, tmp_path: Path, root: Pair, folder: Path
) -> None:
    used, other = Pair(tmp_path / "tls.crt", tmp_path / "tls.key"), certificates.issue(root, folder, "other")
    copy(certificates.issue(root, folder, "third"), used)
    with secured(repository, *tls(used)) as server:
        for content in (other.certificate.read_bytes(), b"noise", b"", None):
            if content is None:
                used.certificate.unlink()
            else:
                used.certificate.write_bytes(content)
            assert code(server.grpc_address, root.trusted) == grpc.StatusCode.OK
            assert code(server.grpc_address, root.trusted) == grpc.StatusCode.OK
        server.wait_for_log("do not fit together.*stays in use")
        assert "read again" not in server.log
        copy(other, used)
        assert code(server.grpc_address, root.trusted) == grpc.StatusCode.OK
        server.wait_for_log("read again")


def test_a_rotated_authority_decides_on_new_clients(
    repository: Path, tmp_path: Path, root: Pair, stranger: Pair, folder: Path
) -> None:
    trusted = Pair(tmp_path / "ca.crt", tmp_path / "ca.key")
    copy(root, trusted)
    ours, theirs = certificates.issue(root, folder, "ours"), certificates.issue(stranger, folder, "theirs")
    with secured(repository, *tls(certificates.issue(root, folder, "fourth"), trusted)) as server:
        shown = [ours.channel(root), theirs.channel(root)]
        assert [code(server.grpc_address, each) for each in shown] == [grpc.StatusCode.OK, UNAVAILABLE]
        copy(stranger, trusted)
        assert [code(server.grpc_address, each) for each in shown] == [UNAVAILABLE, grpc.StatusCode.OK]


@pytest.mark.parametrize("damage", ["another key", "no key", "a key with a password", "no certificate", "no authority"])
def test_files_that_do_not_fit_are_refused_at_the_start(
    repository: Path, tmp_path: Path, root: Pair, folder: Path, damage: str
) -> None:
    pair, client_ca = certificates.issue(root, tmp_path, "fifth"), None
    if damage == "another key":
        pair = Pair(pair.certificate, root.key)
    elif damage == "no key":
        pair.key.write_text("")
    elif damage == "a key with a password":
        certificates._openssl("ec", "-in", pair.key, "-aes128", "-passout", "pass:secret", "-out", tmp_path / "locked")
        pair = Pair(pair.certificate, tmp_path / "locked")
    elif damage == "no certificate":
        pair.certificate.write_text("noise")
    else:
        client_ca = tmp_path / "empty"
        client_ca.touch()
    with pytest.raises(UsageError, match="do not fit together"):
        credentials(Settings(repository, tls_cert=pair.certificate, tls_key=pair.key, tls_client_ca=client_ca))


# Tokens


class Caller:
    """A client with the credentials that the test says, of a server in this process."""

    def __init__(self, channel: grpc.aio.Channel, metrics_address: str) -> None:
        self.channel, self._metrics_address = channel, metrics_address
        self.stub = GRPCInferenceServiceStub(channel)

    async def code(self, *authorization: str) -> tuple[grpc.StatusCode, str | None]:
        metadata = [("authorization", value) for value in authorization]
        try:
            await self.stub.ModelInfer(REQUEST, timeout=20, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details()
        return grpc.StatusCode.OK, ""

    def handled(self, method: str) -> dict[str, float]:
        """Calls of a method by their code."""
        return {
            dict(labels)["grpc_code"]: value
            for (name, labels), value in scrape(self._metrics_address).items()
            if name == "grpc_server_handled_total" and ("grpc_method", method) in labels
        }


def with_tokens(repository: Path, path: Path, play: Callable[[Caller], Awaitable[None]]) -> None:
    async def run() -> None:
        async with (
            running(repository, token_file=path) as server,
            grpc.aio.insecure_channel(server.grpc_address) as channel,
        ):
            await play(Caller(channel, server.metrics_address))

    asyncio.run(run())


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text("first-token\n\n  second-token\t\n")
    return path


REFUSED = (UNAUTHENTICATED, "a valid bearer token is needed")


def test_a_call_needs_one_of_the_tokens(repository: Path, tokens: Path) -> None:
    async def play(caller: Caller) -> None:
        good = ["Bearer first-token", "bearer second-token", "BEARER first-token"]
        bad = [
            "",
            "Bearer",
            "Bearer ",
            "Bearer first-toke",
            "Bearer first-tokens",
            "Bearer first-token second-token",
            "Bearer FIRST-TOKEN",
            "first-token",
            "Basic first-token",
            "Bearer " + "x" * 4000,
        ]
        assert [await caller.code(each) for each in good] == [(grpc.StatusCode.OK, "")] * len(good)
        assert [await caller.code(each) for each in bad] == [REFUSED] * len(bad)
        assert await caller.code() == REFUSED
        assert await caller.code("Bearer nope", "Bearer first-token") == (grpc.StatusCode.OK, "")
        assert caller.handled("ModelInfer") == {"OK": len(good) + 1, "UNAUTHENTICATED": len(bad) + 1}

    with_tokens(repository, tokens, play)


def test_health_is_open_and_everything_else_is_not(repository: Path, tokens: Path) -> None:
    async def play(caller: Caller) -> None:
        health = health_pb2_grpc.HealthStub(caller.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service="toy"), timeout=20)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()
        for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
            if not method.client_streaming:
                call = getattr(caller.stub, method.name)
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(getattr(pb, method.input_type.name)(), timeout=20)
                assert (caught.value.code(), caught.value.details()) == REFUSED
        reflection = reflection_pb2_grpc.ServerReflectionStub(caller.channel)
        stream = reflection.ServerReflectionInfo(timeout=20)  # sends nothing: it is not waited for
        assert await stream.code() == UNAUTHENTICATED

    with_tokens(repository, tokens, play)


def test_a_method_that_does_not_exist_makes_no_series(repository: Path, tokens: Path) -> None:
    async def play(caller: Caller) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.channel.unary_unary("/made.up/Method")(b"", timeout=20)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert caller.handled("Method") == {}

    with_tokens(repository, tokens, play)


def test_tokens_are_read_again_when_the_file_changes(
    repository: Path, tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def play(caller: Caller) -> None:
        assert (await caller.code("Bearer third-token")) == REFUSED
        tokens.write_text("third-token")
        await asyncio.sleep(CHECK_SECONDS)
        assert (await caller.code("Bearer third-token"))[0] == grpc.StatusCode.OK
        assert (await caller.code("Bearer first-token")) == REFUSED
        tokens.write_text("\n")
        await asyncio.sleep(CHECK_SECONDS)
        assert (await caller.code("Bearer third-token"))[0] == grpc.StatusCode.OK
        tokens.unlink()
        await asyncio.sleep(CHECK_SECONDS)
        assert (await caller.code("Bearer third-token"))[0] == grpc.StatusCode.OK
        assert (await caller.code("Bearer ")) == REFUSED

    with caplog.at_level("INFO"):
        with_tokens(repository, tokens, play)
    assert "third-token" not in caplog.text
    assert "is empty, expected one token a line; what was read before stays in use" in caplog.text
    assert "cannot be read: No such file or directory; what was read before stays in use" in caplog.text


def test_an_empty_file_of_tokens_is_refused_at_the_start(repository: Path, tmp_path: Path) -> None:
    (empty := tmp_path / "empty").write_text(" \n\n")

    async def play(caller: Caller) -> None:
        raise AssertionError

    with pytest.raises(UsageError, match="is empty, expected one token a line"):
        with_tokens(repository, empty, play)


def test_a_refused_call_is_answered_before_its_message_came(repository: Path, tokens: Path) -> None:
    async def play(caller: Caller) -> None:
        unfinished = caller.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")(timeout=20)
        await eventually(unfinished.done)
        assert await unfinished.code() == UNAUTHENTICATED

    with_tokens(repository, tokens, play)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_whose_files_do_not_fit_says_so_in_one_line(
    repository: Path, tmp_path: Path, root: Pair, workers: str
) -> None:
    pair = Pair(root.certificate, certificates.issue(root, tmp_path, "sixth").key)
    ports = ["--port", "0", "--metrics-port", "0"]
    server = ServerProcess(["--repository", str(repository), *ports, "--workers", workers, *tls(pair)])
    assert server.wait() == 2, server.log
    server.stop()
    lines = [line for line in server.log.splitlines() if line.startswith("pareto-serve: ")]
    assert len(lines) == 1
    assert "do not fit together" in lines[0]
    assert "Traceback" not in server.log


def test_every_worker_asks_for_certificate_and_token(
    repository: Path, tmp_path: Path, root: Pair, tokens: Path
) -> None:
    flags = [*tls(certificates.issue(root, tmp_path, "seventh"), root), "--token-file", str(tokens), "--workers", "2"]
    shown = certificates.issue(root, tmp_path, "eighth").channel(root)
    token = grpc.access_token_call_credentials("second-token")
    with secured(repository, *flags) as server:
        assert [code(server.grpc_address, shown) for _ in range(6)] == [UNAUTHENTICATED] * 6
        both = grpc.composite_channel_credentials(shown, token)
        assert [code(server.grpc_address, both) for _ in range(6)] == [grpc.StatusCode.OK] * 6
        assert code(server.grpc_address, root.trusted) == UNAVAILABLE
