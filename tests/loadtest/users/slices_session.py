"""Slices of two variants' users against a server, in a process of its own: gevent patches what tests run on.

    python slices_session.py HOST:PORT REPOSITORY

Prints a JSON object: for each scenario the calls of the first variant, as [phase, due, latency], and its turn.
"""

from loadtest.users.slices import ClosedTurn, OpenTurn, Turn, standing_users  # patches, so first

# isort: split
import json
import sys
from contextlib import closing
from pathlib import Path

from loadtest.client.oip import Client
from loadtest.client.payloads import make_inputs, make_payloads
from loadtest.users.recorder import Recorder

VARIANTS = ("fp32-onnxruntime", "fp32-openvino")
TIMES = [0.0, 0.01, 0.05, 0.051, 0.09]
USERS = 4
SCENARIOS: dict[str, list[Turn]] = {
    "first": [ClosedTurn(USERS, 1, 0.05)],
    "second": [ClosedTurn(USERS, 1, 0.05), ClosedTurn(USERS, 1, 0.05)],
    "shortest": [ClosedTurn(USERS, 1, 1e-6)],
    "long": [ClosedTurn(USERS, 1, 0.3)],
    "alone": [ClosedTurn(1, 1, 0.2)],
    "open": [OpenTurn(USERS, 1, 0.1, TIMES)],
    "silent": [OpenTurn(USERS, 1, 0.05, [])],
    "gone": [ClosedTurn(2, 1, 0.01)],
}


def main(target: str, repository: Path) -> None:
    """Plays all scenarios."""
    with closing(Client(target, 10.0)) as client:
        metadata = {variant: client.model("toy", variant) for variant in VARIANTS}
    payloads = {
        name: {1: make_payloads("toy", name, told, make_inputs("toy", told, repository, 0))}
        for name, told in metadata.items()
    }
    played = {}
    for scenario, turns in SCENARIOS.items():
        hosts, recorder = dict.fromkeys(VARIANTS, "127.0.0.1:1" if scenario == "gone" else target), Recorder()
        with standing_users(hosts, payloads, USERS, recorder.on_request, lambda _: None, deadline=10.0) as users:
            for turn in turns:
                recorder.clear()
                users.take(VARIANTS[0], turn)
            samples = recorder.samples(0.0, (0.0, 0.0))
        played[scenario] = {
            "variants": samples.variants,
            "calls": [[int(row["phase"]), float(row["due"]), float(row["latency"])] for row in samples.rows],
            "answered": turns[-1].answered,
            "seconds": turns[-1].seconds,
            "statuses": [each.status for each in recorder.failures],
        }
    print(json.dumps(played))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
