"""Moves objects of 8 and 64 MiB between workers and to the driver, and compares checksums."""

import hashlib
import sys

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

marker = sys.argv[1]
ray.init(address="auto", logging_level="ERROR")


def checksum(array):
    return hashlib.sha256(array).hexdigest()


@ray.remote(num_cpus=0.5)
class Store:
    def make(self, size):
        array = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
        text = np.frombuffer(marker.encode(), dtype=np.uint8)
        array[: len(text)] = text
        return [ray.put(array)], checksum(array)

    def check(self, refs):
        return checksum(ray.get(refs[0]))


workers = [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
assert len(workers) == 2, f"two workers are needed, and there are {len(workers)}"
stores = [Store.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n, soft=False)).remote() for n in workers]
for size in (8 << 20, 64 << 20):
    for maker, reader in ((0, 1), (1, 0)):
        refs, want = ray.get(stores[maker].make.remote(size), timeout=120)
        got = ray.get(stores[reader].check.remote(refs), timeout=120)
        assert got == want, f"{size} bytes changed between workers"
        if maker == 0:
            assert checksum(ray.get(refs[0], timeout=120)) == want, f"{size} bytes changed on the way to the driver"
print("ok: objects of 8 and 64 MiB arrived whole")
