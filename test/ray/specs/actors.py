"""Has two actors on different nodes call each other, both ways, and the driver call both."""

import sys

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

marker = sys.argv[1]
ray.init(address="auto", logging_level="ERROR")


@ray.remote(num_cpus=0.5)
class Peer:
    def node(self):
        return ray.get_runtime_context().get_node_id()

    def echo(self, text):
        return self.node(), text

    def ask(self, other, text):
        return ray.get(other.echo.remote(text))


workers = [n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU")]
assert len(workers) == 2, f"two workers are needed, and there are {len(workers)}"
peers = [Peer.options(scheduling_strategy=NodeAffinitySchedulingStrategy(n, soft=False)).remote() for n in workers]
for caller, called in ((0, 1), (1, 0)):
    for number in range(20):
        text = f"{marker} {number}"
        node, back = ray.get(peers[caller].ask.remote(peers[called], text), timeout=120)
        assert (node, back) == (workers[called], text)
print("ok: actors on two nodes called each other")
