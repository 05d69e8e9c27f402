"""Runs tasks on every worker node, with an argument and a printed line that no other stream may carry.

Arguments: that text, and how many workers there are, which is two if nothing is said.
"""

import sys

import ray

marker, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2
ray.init(address="auto", logging_level="ERROR")


@ray.remote(num_cpus=1)
def where(text):
    print("printed by a task:", text)
    return ray.get_runtime_context().get_node_id(), text[::-1]


workers = {n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")}
assert len(workers) == count, f"{count} workers are needed, and there are {len(workers)}"
for node in workers:
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
    ran_on, text = ray.get(where.options(scheduling_strategy=strategy).remote(marker), timeout=120)
    assert ran_on == node, f"a task for node {node} ran on {ran_on}"
    assert text == marker[::-1]
print(f"ok: tasks ran on {len(workers)} workers")
