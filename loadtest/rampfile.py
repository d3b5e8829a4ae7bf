"""A ramp to saturation by hand: the arrival rate rises in equal steps while the test lasts, and ends at its highest.

    locust -f loadtest/rampfile.py --host 127.0.0.1:8001 --model digits --rate 10 -u 50 -t 60s --samples raw.npz

Each of the `-u` users sends `--rate` requests in a second, so here the load rises to 500 in a second, and a server
that saturates on the way shows where: latencies and failures of the raw samples against the time they were due. A
file of its own, because Locust always uses a shape that it finds: with it, the number of users on the web page says
how high the ramp goes. Locust asks a shape once a second, so steps are no shorter.
"""

from loadtest.locustfile import ArrivalUser  # makes this a Locust process, so before all else

# isort: split
import math

from locust import LoadTestShape

SECONDS = 60
"""Of a ramp without `-t`, as on the web page."""


class RampUser(ArrivalUser):
    """One step: an independent Poisson process of `--rate` arrivals in a second."""


class Ramp(LoadTestShape):
    """From one user to `-u` of them in the time of `-t`, then the end."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """How many users there should be now, and how many of them may begin in a second: all."""
        assert self.runner
        options = self.runner.environment.parsed_options
        assert options
        seconds, users = float(options.run_time or SECONDS), int(options.num_users or 1)
        passed: float = self.get_run_time()  # type: ignore[no-untyped-call]
        return (math.floor(users * passed / seconds) + 1, users) if passed < seconds else None
