"""Measures calls, pulls and new actors between the head and two workers, and the CPU time that the pods use for them.

Prints JSON: seconds per call and per new actor, calls and bytes per second, CPU seconds, and the machine's cores and load.
"""

import json
import os
import pathlib
import statistics
import time

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

SYNC, ASYNC, PEER = 2000, 5000, 1000
PULLS = {"pull1": (1 << 20, 64), "pull16": (16 << 20, 8)}  # the size of an object, and how many are pulled
NEW = 5

load = os.getloadavg()[0]
ray.init(address="auto", logging_level="ERROR")


def cpu():
    """Gives the CPU seconds that this pod's container has used."""
    stat = pathlib.Path("/sys/fs/cgroup/cpu.stat")
    if stat.exists():
        return int(dict(line.split() for line in stat.read_text().splitlines())["usage_usec"]) / 1e6
    return int(pathlib.Path("/sys/fs/cgroup/cpuacct/cpuacct.usage").read_text()) / 1e9  # control groups of version 1


@ray.remote(num_cpus=0)
class Peer:
    def echo(self, value=None):
        return value

    def cpu(self):
        return cpu()

    def ask(self, other, calls):
        return timed(lambda: ray.get(other.echo.remote()), calls)

    def make(self, size, count):
        return [ray.put(np.full(size, i, dtype=np.uint8)) for i in range(count)]

    def pull(self, refs):
        began = time.perf_counter()
        for ref in refs:
            ray.get(ref)
        return time.perf_counter() - began


def timed(call, times):
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return taken


workers = [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
assert len(workers) == 2, f"two workers are needed, and there are {len(workers)}"
places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in workers]
a, b = (Peer.options(scheduling_strategy=place).remote() for place in places)
ray.get(a.ask.remote(b, 100), timeout=180)
timed(lambda: ray.get(a.echo.remote()), 200)


def used():
    return cpu() + sum(ray.get([a.cpu.remote(), b.cpu.remote()]))


figures = {}
before = used()
calls = timed(lambda: ray.get(a.echo.remote()), SYNC)
figures["sync"], figures["sync99"] = statistics.median(calls), statistics.quantiles(calls, n=100)[98]
began = time.perf_counter()
ray.get([a.echo.remote() for _ in range(ASYNC)])
figures["async"] = ASYNC / (time.perf_counter() - began)
figures["peer"] = statistics.median(ray.get(a.ask.remote(b, PEER)))
figures["cpuCalls"] = used() - before

before = used()
for name, (size, count) in PULLS.items():
    refs = ray.get(a.make.remote(size, count), timeout=180)
    figures[name] = size * count / ray.get(b.pull.remote(refs), timeout=180)
    del refs  # the store holds 200 MB
figures["cpuPulls"] = used() - before


def new_actor(number):
    # A variable of its own keeps Ray from giving the actor a process that is there already.
    options = {"scheduling_strategy": places[0], "runtime_env": {"env_vars": {"RAYTLS_BENCH": str(number)}}}
    began = time.perf_counter()
    actor = Peer.options(**options).remote()
    ray.get(actor.echo.remote(), timeout=180)
    taken = time.perf_counter() - began
    ray.kill(actor)
    return taken


figures["newActor"] = statistics.median(new_actor(i) for i in range(NEW))
print(json.dumps({"cores": os.cpu_count(), "load": load, "figures": figures}))
