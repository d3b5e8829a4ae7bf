"""Replicas that come, go and die under load: what a client sees of it."""

import asyncio
import os
from signal import SIGKILL
from typing import Any

from protos.tensors import encode_request
from tests.deploy.ray.cluster import Cluster
from tests.support import toy
from tests.support.serving import eventually
from tests.support.steady import SteadyLoad

REQUEST = encode_request("toy", "fp32-onnxruntime", {"input": toy.images(1)})
ONE_CAN = 50
"""Calls a second, of 20 ms each."""


def scaling(least: int, most: int) -> dict[str, Any]:
    """The autoscaling of serve.yaml, faster."""
    fast = {"upscale_delay_s": 1, "downscale_delay_s": 2, "metrics_interval_s": 0.5, "look_back_period_s": 2}
    return {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": 4, **fast}


def test_replicas_follow_the_load_up_and_down_and_every_call_is_answered(ray: Cluster) -> None:
    room = {"queue-size": 1000}  # for what comes until the second replica is there, however long that takes
    ray.deploy(ray.slow(room, max_ongoing_requests=1100, autoscaling_config=scaling(1, 2)))
    assert ray.running() == 1
    with SteadyLoad(ray.address, REQUEST, 1.3 * ONE_CAN) as load:
        asyncio.run(eventually(ray.running, 2, seconds=60))
        load.at(5)
        asyncio.run(eventually(ray.running, 1, seconds=60))
    assert load.outcomes == {"OK": load.sent}, load.texts


def test_a_replica_that_is_killed_under_load_costs_only_the_calls_that_it_had(ray: Cluster) -> None:
    ray.deploy(ray.slow({}, autoscaling_config=scaling(2, 2)))
    asyncio.run(eventually(ray.running, 2, seconds=60))
    with SteadyLoad(ray.address, REQUEST, ONE_CAN) as load:
        load.wait_for(50)
        dead = ray.pids()[0]
        os.kill(dead, SIGKILL)
        load.wait_for(100)
        asyncio.run(eventually(lambda: (ray.running(), dead in ray.pids()), (2, False), seconds=60))
        load.wait_for(50)
    assert {*load.outcomes} <= {"OK", "INTERNAL"}  # Ray's own code, since it cannot know whether a call was executed
    assert all(text.startswith("The actor died unexpectedly before finishing this task") for text in load.texts)


def test_a_new_version_takes_the_place_of_the_old_one_and_nobody_notices(ray: Cluster) -> None:
    ray.deploy(ray.slow({"max-rows": 8}, autoscaling_config=scaling(1, 1)))
    old = ray.pids()
    with SteadyLoad(ray.address, REQUEST, 0.6 * ONE_CAN) as load:
        load.wait_for(50)
        ray.submit(ray.slow({"max-rows": 16}, autoscaling_config=scaling(1, 1)))
        asyncio.run(eventually(lambda: len(ray.pids()) == 1 and ray.pids() != old, seconds=60))
        load.wait_for(50)
    assert load.outcomes == {"OK": load.sent}, load.texts
