"""Puts more into a worker's object store than it holds, so that Ray spills to disk, and reads everything back elsewhere."""

import hashlib
import subprocess

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

SIZE, COUNT = 32 << 20, 10  # 320 MiB, where a store holds 200 MB

ray.init(address="auto", logging_level="ERROR")


@ray.remote(num_cpus=0.5)
class Store:
    def make(self):
        refs = [ray.put(np.full(SIZE, i, dtype=np.uint8)) for i in range(COUNT)]
        return refs

    def check(self, refs):
        return [hashlib.sha256(ray.get(ref)).hexdigest() for ref in refs]


workers = [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
stores = [Store.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n, soft=False)).remote() for n in workers]
refs = ray.get(stores[0].make.remote(), timeout=180)
got = [ray.get(stores[1].check.remote([ref]), timeout=180)[0] for ref in refs]
want = [hashlib.sha256(np.full(SIZE, i, dtype=np.uint8)).hexdigest() for i in range(COUNT)]
assert got == want, "an object changed on its way over the disk"
stats = subprocess.run(["ray", "memory", "--stats-only"], capture_output=True, text=True, timeout=120)
assert "Spilled" in stats.stdout, f"Ray spilled nothing: {stats.stdout}{stats.stderr}"
print("ok: spilled objects were read from another node")
