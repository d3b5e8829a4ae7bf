"""What is asked of a server before any load."""

import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from loadtest.client.discovery import ANSWER_SECONDS, Listing, discover, list_variants, wait_until_ready
from loadtest.client.oip import Client
from loadtest.client.payloads import DEFAULT_VARIANT
from loadtest.interrupt import Interrupted
from loadtest.plan import Plan
from protos.errors import UsageError
from protos.manifest import Footprint
from protos.repository import publish, read_entry
from tests.support import toy
from tests.support.loadtest.foreign import MODEL, foreign
from tests.support.serving import ServerProcess, serving


@contextmanager
def client_of(versions: tuple[str, ...]) -> Iterator[Client]:
    with foreign(versions) as server:
        client = Client(server.address, 10.0)
        yield client
        client.close()


def listing_of(versions: tuple[str, ...], *wanted: str, model: str = MODEL) -> Listing:
    with client_of(versions) as client:
        return list_variants(client, model, wanted)


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where nobody listens: its port is taken."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_every_ready_variant_is_found_in_the_server_s_order() -> None:
    found = listing_of(("b", "a"))
    assert (found.server.name, list(found.ready), found.skipped) == ("foreign", ["b", "a"], {})


def test_a_variant_that_is_not_ready_is_listed_with_the_reason() -> None:
    found = listing_of(("a", "cold-b"))
    assert list(found.ready) == ["a"]
    assert found.skipped == {"cold-b": "the server says that it is not ready"}


def test_of_a_foreign_server_s_variant_the_manifest_says_the_memory_and_no_interval(tmp_path: Path) -> None:
    """The server states no accuracy: the manifest's would be that of another variant, for all that is known."""
    files = toy.publish_variant(tmp_path, "onnxruntime")
    known = read_entry(files).variant
    assert known is not None
    assert known.quality is not None
    quality = replace(known.quality, interval=(0.5, 0.9), drop_interval=(-0.1, 0.1))
    there = replace(known, model=MODEL, variant="a", quality=quality, footprint=Footprint(1, 50_000_000))
    publish(tmp_path, there, files)
    with foreign(("a",)) as server:
        plan = Plan(target=server.address, model=MODEL, out=tmp_path / "run", users=(1,), repository=tmp_path)
        facts = discover(plan, lambda _: None).facts["a"]
    assert (facts.memory_bytes, facts.quality_interval, facts.drop_interval) == (50_000_000, None, None)


def test_each_of_our_servers_tells_its_way_in(repository: Path, server: ServerProcess, tmp_path: Path) -> None:
    with serving(repository, "--front", "native") as native:
        target = f"{server.grpc_address},native={native.grpc_address}"
        plan = Plan(target=target, model=toy.MODEL, out=tmp_path / "run", users=(1,), repository=repository)
        found, on_streams = (discover(each, lambda _: None) for each in (plan, replace(plan, transport="stream")))
    assert found.ways_in == ("ModelInfer by grpcio", "ModelInfer by pygrpc-native @ native")
    assert on_streams.ways_in == (
        "ModelStreamInfer by grpcio",
        "ModelStreamInfer by grpcio behind pygrpc-native @ native",
    )


def test_of_a_server_that_is_not_ours_no_way_in_is_told(tmp_path: Path) -> None:
    with foreign() as server:
        plan = Plan(target=server.address, model=MODEL, out=tmp_path / "run", users=(1,), repository=tmp_path)
        found = discover(plan, lambda _: None)
    assert (found.servers, found.ways_in) == (("foreign 1.0",), ())


def test_only_the_wanted_variants_are_asked_for() -> None:
    assert list(listing_of(("a", "b", "c"), "c", "a").ready) == ["c", "a"]


def test_a_server_without_versions_has_one_variant() -> None:
    assert list(listing_of(()).ready) == [DEFAULT_VARIANT]


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"model 'foreign': got variant 'c', expected one of a, b"):
        listing_of(("a", "b"), "c")


def test_an_unknown_model_is_refused_with_the_server_s_words() -> None:
    with pytest.raises(UsageError, match=r"model 'other': NOT_FOUND: no model 'other'"):
        listing_of((), model="other")


def test_a_model_of_which_nothing_is_ready_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no variant of model 'foreign' is ready: cold-a, cold-b"):
        listing_of(("cold-a", "cold-b"))


def test_a_server_that_does_not_answer_is_refused() -> None:
    with foreign() as server:
        pass
    client = Client(server.address, 10.0)
    with pytest.raises(UsageError, match="the server does not answer: UNAVAILABLE"):
        list_variants(client, MODEL)
    client.close()


def test_a_server_that_is_not_there_is_waited_for_no_longer_than_asked(silent: str) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    client = Client(silent, deadline=5.0)
    wait_until_ready(client, 3.0, sleep, clock=lambda: now)
    client.close()
    assert 3.0 <= now < 3.5


def test_waiting_ends_with_what_the_sleep_raises(silent: str) -> None:
    def interrupted(_: float) -> None:
        raise Interrupted(signal.SIGINT)

    client = Client(silent, deadline=5.0)
    with pytest.raises(Interrupted):
        wait_until_ready(client, 600.0, interrupted)
    client.close()


def test_a_server_that_does_not_answer_at_all_is_asked_again() -> None:
    asked = []

    class Deaf(Client):
        def server_ready(self, seconds: float) -> bool:
            asked.append(seconds)
            return len(asked) == 3

    with closing(Deaf("127.0.0.1:1", deadline=600.0)) as client:
        wait_until_ready(client, 600.0, lambda _: None)
    assert asked == [ANSWER_SECONDS] * 3
