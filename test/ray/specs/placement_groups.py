"""Spreads a placement group over both workers, uses and removes it."""

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

ray.init(address="auto", logging_level="ERROR")


@ray.remote(num_cpus=0.5)
def node():
    return ray.get_runtime_context().get_node_id()


group = placement_group([{"CPU": 0.5}] * 2, strategy="STRICT_SPREAD")
assert group.wait(timeout_seconds=60), "the placement group was not made"
nodes = ray.get(
    [
        node.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=i)).remote()
        for i in range(2)
    ],
    timeout=120,
)
assert len(set(nodes)) == 2, f"both bundles lie on node {nodes[0]}"
remove_placement_group(group)
print("ok: a placement group spread over two nodes")
