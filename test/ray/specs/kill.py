"""Kills the process of an actor that may restart, and of a task that may be tried again."""

import os
import signal
import time

import ray
from ray.util.state import list_actors

ray.init(address="auto", logging_level="ERROR")


@ray.remote(num_cpus=0.5, max_restarts=1, max_task_retries=-1)
class Fragile:
    def process(self):
        return os.getpid()


@ray.remote(num_cpus=0.5, max_retries=2)
def die_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


@ray.remote(num_cpus=0)
def kill(process):
    os.kill(process, signal.SIGKILL)


fragile = Fragile.remote()
before = ray.get(fragile.process.remote(), timeout=120)
node = next(a.node_id for a in list_actors(detail=True) if a.pid == before and a.state == "ALIVE")
here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
ray.get(kill.options(scheduling_strategy=here).remote(before), timeout=120)
deadline = time.monotonic() + 120
while (after := ray.get(fragile.process.remote(), timeout=120)) == before:
    assert time.monotonic() < deadline, "the process of the actor lives on"
    time.sleep(0.2)
assert ray.get(die_once.options(scheduling_strategy=here).remote(f"/tmp/raytls-die-once-{after}"), timeout=120) == "done"
print("ok: processes that were killed were replaced")
