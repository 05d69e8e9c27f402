"""Is the entrypoint of a RayJob: it calls tasks and an actor on workers once a second, until it is told how to end.

The file /tmp/outcome of the pod that it runs in tells it: "succeed" or "fail". Every tenth task has a new process.
"""

import os
import pathlib
import sys
import time

import ray

ray.init(logging_level="ERROR")


@ray.remote(num_cpus=0.5)
def turn(text):
    return ray.get_runtime_context().get_node_id(), text[::-1]


@ray.remote(num_cpus=0.1)
class Actor:
    def turn(self, text):
        return text[::-1]


marker = os.environ["MARKER"]  # not printed, for whoever submits the job reads its logs over HTTP
for node, text in ray.get([turn.remote(marker) for _ in range(10)], timeout=120):
    assert node != ray.get_runtime_context().get_node_id(), "a task ran on the head"
    assert text == marker[::-1]
print("the tasks ended well")
actor = Actor.remote()
outcome, deadline, rounds = pathlib.Path("/tmp/outcome"), time.monotonic() + 1800, 0
while not outcome.exists():
    assert time.monotonic() < deadline, "nobody tells how to end"
    task = turn if rounds % 10 else turn.options(runtime_env={"env_vars": {"ROUND": str(rounds)}})
    (_, by_task), by_actor = ray.get([task.remote(marker), actor.turn.remote(marker)], timeout=120)
    assert by_task == by_actor == marker[::-1]
    rounds += 1
    time.sleep(1)
print(f"{rounds} rounds ended well")
sys.exit(0 if outcome.read_text().strip() == "succeed" else "this attempt fails, as it was told to")
