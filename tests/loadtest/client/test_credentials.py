"""Files of certificates and tokens: what fits is read, what does not is one line that names it."""

from pathlib import Path

import grpc
import pytest

from loadtest.access import Access
from loadtest.client.credentials import PLAIN, read_credentials
from loadtest.client.oip import CallError, Client
from loadtest.client.payloads import make_inputs, make_payloads
from protos.errors import UsageError
from protos.v1 import inference_pb2 as pb
from tests.support import certificates
from tests.support.loadtest.foreign import MODEL, foreign, metadata


def token_file(folder: Path, text: bytes) -> Path:
    (folder / "tokens").write_bytes(text)
    return folder / "tokens"


def test_without_flags_calls_are_plain_and_bring_nothing() -> None:
    assert read_credentials(Access()) == PLAIN
    assert PLAIN.metadata == ()


def test_the_first_token_is_sent_and_not_shown(tmp_path: Path) -> None:
    read = read_credentials(Access(token_file=token_file(tmp_path, b"\n  mine \nother\n")))
    assert read.metadata == (("authorization", "Bearer mine"),)
    assert "mine" not in repr(read)


def test_tls_alone_trusts_the_public_authorities() -> None:
    assert read_credentials(Access(tls=True)).channel is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [(b"\n", "is empty, expected one token a line"), ("schlüssel".encode(), "is no token, expected visible ASCII")],
)
def test_a_file_without_a_token_is_named(text: bytes, message: str, tmp_path: Path) -> None:
    path = token_file(tmp_path, text)
    with pytest.raises(UsageError, match=f"^--token-file: .*'{path}' {message}"):
        read_credentials(Access(token_file=path))


def test_a_key_of_another_certificate_is_named(tmp_path: Path) -> None:
    one, other = (certificates.authority(tmp_path, name) for name in ("one", "other"))
    with pytest.raises(UsageError, match=r"^--tls-ca, .*one\.crt, .*other\.key do not fit together: .*MISMATCH"):
        read_credentials(Access(tls_client_cert=one.certificate, tls_client_key=other.key))


def test_a_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^--tls-ca, .*tokens do not fit together: "):
        read_credentials(Access(tls_ca=token_file(tmp_path, b"no certificate")))


def test_a_token_that_a_server_sends_back_is_not_kept(tmp_path: Path) -> None:
    def tell(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        brought = dict(context.invocation_metadata())["authorization"]
        context.abort(grpc.StatusCode.PERMISSION_DENIED, f"no right for '{brought}'")
        raise AssertionError

    credentials = read_credentials(Access(token_file=token_file(tmp_path, b"mine\n")))
    payload = make_payloads(MODEL, "v1", metadata(), make_inputs(MODEL, metadata(), tmp_path, seed=0))[0]
    with foreign(("v1",), tell) as server:
        client = Client(server.address, 10.0, credentials)
        with pytest.raises(CallError, match=r"^PERMISSION_DENIED: no right for 'Bearer \[token\]'$"):
            client.infer(payload)
        client.close()
