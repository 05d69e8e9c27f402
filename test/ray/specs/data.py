"""Runs Ray Data: a range, a map over batches, and a group-by, which shuffles between nodes."""

import sys

import ray

EXTRA = "/opt/extra"  # where an image may have what Ray Data needs besides
sys.path.append(EXTRA)
try:
    import pandas  # noqa: F401
    import pyarrow  # noqa: F401
except ImportError as missing:
    print("skip: Ray Data needs", missing.name)
    sys.exit(77)

ray.init(address="auto", logging_level="ERROR", runtime_env={"env_vars": {"PYTHONPATH": EXTRA}})
context = ray.data.DataContext.get_current()
context.enable_progress_bars = False
# The default strategy keeps actors on every node, which leave no whole CPU for a task where nodes have one.
context.shuffle_strategy = ray.data.context.ShuffleStrategy.SORT_SHUFFLE_PULL_BASED


def with_rest(batch):
    batch["rest"] = batch["id"] % 7
    return batch


sums = ray.data.range(7000, override_num_blocks=8).map_batches(with_rest).groupby("rest").sum("id").take_all()
got = {row["rest"]: row["sum(id)"] for row in sums}
want = {rest: sum(range(rest, 7000, 7)) for rest in range(7)}
assert got == want, got
# Ray Data leaves actors behind, which would listen on ports when those are tried.
for left in ray.util.list_named_actors(all_namespaces=True):
    ray.kill(ray.get_actor(left["name"], namespace=left["namespace"]))
print("ok: Ray Data grouped 7000 rows")
