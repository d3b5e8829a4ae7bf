"""A ramp to saturation by hand: the arrival rate rises in equal steps while the test lasts.

    locust -f loadtest/rampfile.py --host 127.0.0.1:8001 --model digits --rate 10 -u 50 -t 60s --samples raw.npz

Each of the `-u` users sends `--rate` requests per second to one of the variants, so here the load rises to 500 per
second; without `--rate` it is users of the closed loop that become more. The raw samples show where the server
saturates: latencies and failures over the time they were due. The ramp has a file of its own because Locust uses any
shape that it finds. Locust asks a shape once a second, so steps are no shorter.
"""

from loadtest.locustfile import VariantUser  # makes this a Locust process, so before all else

# isort: split
import math

from locust import LoadTestShape

__all__ = ["Ramp", "VariantUser"]

SECONDS = 60
"""Length of a ramp without `-t`, as on the web page."""


class Ramp(LoadTestShape):
    """Rises from one user to `-u` users in the time of `-t`, then ends."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Returns how many users there should be now, and that all of them may begin at once; None at the end."""
        assert self.runner
        options = self.runner.environment.parsed_options
        assert options
        seconds, users = float(options.run_time or SECONDS), int(options.num_users or 1)
        passed: float = self.get_run_time()  # type: ignore[no-untyped-call]
        return (math.floor(users * passed / seconds) + 1, users) if passed < seconds else None
