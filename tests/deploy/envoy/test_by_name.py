"""Envoy with the cluster that a comment of its file has for a name: a real name server, and real servers."""

import asyncio
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from socketserver import BaseRequestHandler, UDPServer
from threading import Thread
from typing import Any

import yaml

from protos.tensors import encode_request
from protos.v1.inference_pb2_grpc import GRPCInferenceServiceStub
from tests.deploy.envoy.balancing import FILES, answered, balancing
from tests.support import toy
from tests.support.serving import connect, eventually, quiet_port, serving

REQUEST = encode_request("toy", "fp32-onnxruntime", {"input": toy.images(1)})


class NameServer(UDPServer):
    """Has `addresses` for every name that it is asked for."""

    addresses: Sequence[str] = ()


class _Answer(BaseRequestHandler):
    def handle(self) -> None:
        query, back = self.request
        question = query[12 : query.index(0, 12) + 5]
        assert isinstance(self.server, NameServer)
        found = self.server.addresses if question.endswith(struct.pack(">2H", 1, 1)) else ()  # those of IPv4
        header = query[:2] + struct.pack(">5H", 0x8180, 1, len(found), 0, 0)
        records = [struct.pack(">3HIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(address) for address in found]
        back.sendto(header + question + b"".join(records), self.client_address)


@contextmanager
def name_server() -> Iterator[NameServer]:
    with NameServer(("127.0.0.1", 0), _Answer) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


def by_name(port: int, asked: int) -> Any:
    """The configuration for servers at `port` of each address that the name server at port `asked` has."""
    lines = (FILES / "envoy.yaml").read_text().splitlines()
    first, last = lines.index("      type: EDS"), lines.index("      lb_policy: LEAST_REQUEST")
    named = [line.replace("# ", "", 1) for line in lines[first + 6 : last]]  # below four of the list, and two in words
    config = yaml.safe_load("\n".join([*lines[:first], *named, *lines[last:]]))
    (cluster,) = config["static_resources"]["clusters"]
    cluster["cluster_type"]["typed_config"]["typed_dns_resolver_config"] = {
        "name": "cares",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": asked}}],
        },
    }
    (server,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    server["endpoint"]["address"]["socket_address"]["port_value"] = port
    return config


def test_calls_go_to_the_addresses_that_the_name_has_now(tmp_path: Path) -> None:
    models, port = toy.repository(tmp_path / "models", ("onnxruntime",)), quiet_port()
    first, second = f"127.0.0.2:{port}", f"127.0.0.3:{port}"
    with (
        serving(models, "--host", "127.0.0.2", "--port", str(port)) as leaving,
        serving(models, "--host", "127.0.0.3", "--port", str(port)) as staying,
        name_server() as names,
    ):
        names.addresses = ["127.0.0.2", "127.0.0.3"]
        config = by_name(port, names.server_address[1])
        with balancing(tmp_path, [first, second], config=config) as envoy, connect(envoy.address) as channel:
            names.addresses = ["127.0.0.3"]
            asyncio.run(eventually(envoy.healthy, {second}))
            for _ in range(20):
                GRPCInferenceServiceStub(channel).ModelInfer(REQUEST, timeout=30)
        assert (answered(leaving), answered(staying)) == (0, 20)
