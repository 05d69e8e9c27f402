"""Calls an actor and a task on every worker, once a second, for as long as the pod runs or until the file of the argument exists.

It is a driver on a worker. Each call that ends becomes a line of JSON: which pod was called, what, when in seconds since 1970, how
long it took, and what went wrong, if anything did. Of one kind of call to one pod, one is under way at a time.
"""

import json
import pathlib
import sys
import threading
import time

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ENOUGH, SECONDS = pathlib.Path(sys.argv[1]), 120  # how long an answer is waited for
printing = threading.Lock()

ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
# Two threads of a driver listen for logs and errors. While the head is away, they ask in a busy loop (2.60), and some drivers leave
# no core of a small machine to the new head. This event ends the threads.
ray._private.worker.global_worker.threads_stopped.set()


@ray.remote(num_cpus=0)
class Actor:
    def echo(self, value):
        return value


@ray.remote(num_cpus=0)
def echo(value):
    return value


def alive():
    """The workers that Ray takes for alive, by their addresses. There is no answer while the head is away."""
    return {n["NodeManagerAddress"]: n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")}


def calls(address, what, call):
    """Calls once a second, until the pod that is called is gone."""
    while address in workers and not ENOUGH.exists():
        began, problem = time.time(), ""
        try:
            assert ray.get(call(address), timeout=SECONDS) == address
        except Exception as error:  # the spec judges it
            problem = f"{type(error).__name__}: {error}"[:300]
        took = time.time() - began
        with printing:
            print(json.dumps({"to": address, "what": what, "began": began, "took": took, "problem": problem}), flush=True)
        time.sleep(max(0.0, 1 - took))


workers, known, calling = {}, set(), []
while not ENOUGH.exists():
    try:
        workers = alive()
    except Exception as error:  # the head is away
        print(f"asking for the nodes: {error}", file=sys.stderr, flush=True)
    for address in set(workers) - known:
        known.add(address)
        there = NodeAffinitySchedulingStrategy(workers[address], soft=False)
        actor = Actor.options(scheduling_strategy=there).remote()
        for what, call in (("actor", actor.echo.remote), ("task", echo.options(scheduling_strategy=there).remote)):
            calling.append(threading.Thread(target=calls, args=(address, what, call)))
            calling[-1].start()
    time.sleep(1)
for thread in calling:
    thread.join()
