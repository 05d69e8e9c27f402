"""Connects with the Ray Client to the address that is given, and runs a task through it."""

import sys

import ray

with ray.init("ray://" + sys.argv[1], logging_level="ERROR"):
    assert ray.get(ray.remote(num_cpus=0.5)(lambda: 6 * 7).remote(), timeout=120) == 42
print("ok: the Ray Client ran a task")
