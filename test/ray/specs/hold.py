"""Keeps a worker process on each worker for as many seconds as its argument says."""

import sys
import time

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ray.init(address="auto", logging_level="ERROR")


@ray.remote(num_cpus=0.1)
class Held:
    def here(self):
        return True


workers = [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
held = [Held.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n, soft=False)).remote() for n in workers]
assert all(ray.get([h.here.remote() for h in held], timeout=120))
print(f"ok: holding {len(held)} processes", flush=True)
time.sleep(float(sys.argv[1]))
