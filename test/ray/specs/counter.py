"""Calls a detached actor that counts, which the first call makes, and prints its count.

Arguments: the least count that is expected. GCS fault tolerance keeps the actor over the end of the head.
"""

import sys
import time

import ray

ray.init(address="auto", namespace="raytls", logging_level="ERROR")


@ray.remote(num_cpus=0.5)
class Counter:
    def __init__(self):
        self.count = 0

    def next(self):
        self.count += 1
        return self.count


counter = Counter.options(name="counter", lifetime="detached", get_if_exists=True).remote()
count = ray.get(counter.next.remote(), timeout=60)
assert count >= int(sys.argv[1]), f"the counter is at {count}, so that it was made anew"
print(f"ok: the counter is at {count}")
