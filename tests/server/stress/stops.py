"""SIGTERM under load, many times in a row: no accepted call is lost, and the server ends well.

`make stops` does it fifty times through each door; the suite does it twice. Each time a server is started, 32 calls
are under way in a closed loop, and it is stopped without notice. A call is lost where the server says that it answered
it and the client has no answer; whatever else the client is told must be a refusal that `doors` lists.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.support import toy
from tests.support.server import doors
from tests.support.server.load import PIPELINED, Load, answered_calls
from tests.support.serving import serving

CLIENTS = 8
IN_FLIGHT = CLIENTS * PIPELINED


def stop(repository: Path, front: str) -> list[str]:
    """Stops one server of `repository`, which holds `toy`, under load; returns what was not as it should be."""
    with serving(repository, "--front", front) as server:
        load = Load(server, CLIENTS)
        server.signal()
        code, told = server.wait(), load.outcomes()
    answered = answered_calls(server.log)
    refusals = doors.expected("calls that it has not handed over when it stops", front)
    expected = {
        f"exit code {code}": code == 0,
        f"{answered['OK'] - told['right']} of {answered['OK']} answers were lost": answered["OK"] == told["right"],
        f"clients were told {dict(told)}": told.keys() - {"right"} <= refusals,
        f"the server counted {dict(answered)}": answered.keys() <= {"OK", "UNAVAILABLE"},
        "a traceback in the log": "Traceback" not in server.log,
    }
    return [wrong for wrong, holds in expected.items() if not holds]


def main() -> int:
    """Prints a line for each door; the exit code is 1 where a call was lost or a server did not end well."""
    parser = argparse.ArgumentParser(prog="stops", description=__doc__)
    parser.add_argument("--times", type=int, default=50)
    times = parser.parse_args().times
    found: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        repository = toy.repository(Path(folder), ("onnxruntime",))
        for front in doors.DOORS:
            wrong = [line for _ in range(times) for line in stop(repository, front)]
            print(f"{front}: {times} stops under {IN_FLIGHT} calls, {len(wrong)} findings")
            found += wrong
    print(*found, sep="\n", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
