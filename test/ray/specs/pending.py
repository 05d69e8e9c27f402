"""Asks for more CPUs than the cluster has, so that the autoscaler has to add a worker, and waits for the tasks."""

import sys
import time

import ray

tasks = int(sys.argv[1])
ray.init(address="auto", logging_level="ERROR")


@ray.remote(num_cpus=1)
def hold():
    time.sleep(5)
    return ray.get_runtime_context().get_node_id()


nodes = set(ray.get([hold.remote() for _ in range(tasks)], timeout=240))
print(f"ok: {tasks} tasks ran on {len(nodes)} nodes")
