"""Has a task on each worker print a line. The lines reach the driver, which prints them, and the log API of each node."""

import os
import sys
import time

os.environ["RAY_DEDUP_LOGS"] = "0"  # which would print one of the lines alone
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from ray.util.state import get_log, list_logs

marker = sys.argv[1]
ray.init(address="auto")


@ray.remote(num_cpus=0.5)
def speak(text):
    print(text, flush=True)


workers = [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
for number, node in enumerate(workers):
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    ray.get(speak.options(scheduling_strategy=strategy).remote(f"{marker} of node {number}"), timeout=120)


def found(node, text):
    return any(
        text in "".join(get_log(node_id=node, filename=name, tail=500))
        for names in list_logs(node_id=node, glob_filter="worker*.out").values()
        for name in names
    )


for number, node in enumerate(workers):
    text, deadline = f"{marker} of node {number}", time.monotonic() + 60
    while not found(node, text):
        assert time.monotonic() < deadline, f"no log of node {node} holds the line"
        time.sleep(1)
time.sleep(2)  # the driver prints what it is sent each half second
print(f"ok: the logs of {len(workers)} workers were read")
