"""Certificates for tests, made by the openssl program in milliseconds; a test fails clearly where there is none."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True)
class Pair:
    """Two PEM files."""

    certificate: Path
    key: Path

    def channel(self, root: "Pair | None") -> grpc.ChannelCredentials:
        """What a client shows that has this certificate and trusts `root`."""
        trusted = root.certificate.read_bytes() if root else None
        return grpc.ssl_channel_credentials(trusted, self.key.read_bytes(), self.certificate.read_bytes())

    @property
    def trusted(self) -> grpc.ChannelCredentials:
        """What a client shows that has no certificate and trusts this one."""
        return grpc.ssl_channel_credentials(self.certificate.read_bytes())


def authority(folder: Path, name: str) -> Pair:
    """A certificate authority of its own."""
    pair = _pair(folder, name)
    _openssl("req", "-x509", "-new", "-key", pair.key, "-days", "2", "-subj", f"/CN={name}", "-out", pair.certificate)
    return pair


def self_signed(folder: Path, name: str) -> Pair:
    """A certificate for an RSA key, by itself."""
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    new = ("-newkey", "rsa:2048", "-nodes", "-keyout", pair.key, "-out", pair.certificate)
    _openssl("req", "-x509", *new, "-days", "2", "-subj", f"/CN={name}")
    return pair


def issue(root: Pair, folder: Path, name: str, days: int = 2) -> Pair:
    """A certificate for 127.0.0.1 and localhost by `root`; expired where `days` is negative."""
    pair, request, names = _pair(folder, name), folder / f"{name}.csr", folder / "names"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    _openssl("req", "-new", "-key", pair.key, "-subj", f"/CN={name}", "-out", request)
    signer = ("-CA", root.certificate, "-CAkey", root.key, "-CAcreateserial")
    _openssl("x509", "-req", "-in", request, *signer, "-days", days, "-extfile", names, "-out", pair.certificate)
    return pair


def _pair(folder: Path, name: str) -> Pair:
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    _openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", pair.key)
    return pair


def _openssl(*arguments: object) -> None:
    program = shutil.which("openssl")
    assert program, "these tests need the openssl program: apt-get install openssl"
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
