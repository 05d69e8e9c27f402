"""Is the entrypoint of a RayJob: it runs tasks on a worker, and then waits to be told how to end.

The file /tmp/outcome of the pod that it runs in tells it: "succeed" or "fail".
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


marker = os.environ["MARKER"]  # not printed, for whoever submits the job reads its logs over HTTP
for node, text in ray.get([turn.remote(marker) for _ in range(10)], timeout=120):
    assert node != ray.get_runtime_context().get_node_id(), "a task ran on the head"
    assert text == marker[::-1]
print("the tasks ended well")
outcome, deadline = pathlib.Path("/tmp/outcome"), time.monotonic() + 1800
while not outcome.exists():
    assert time.monotonic() < deadline, "nobody tells how to end"
    time.sleep(0.2)
sys.exit(0 if outcome.read_text().strip() == "succeed" else "this attempt fails, as it was told to")
