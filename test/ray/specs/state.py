"""Asks for the cluster's state by every command line tool that dials Ray."""

import subprocess

import ray

ray.init(address="auto", logging_level="ERROR")


@ray.remote(num_cpus=0.5)
class Here:
    def ready(self):
        return ray.put(b"x" * 200_000)


here = Here.remote()
kept = ray.get(here.ready.remote(), timeout=120)


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    said = f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}"
    assert done.returncode == 0, said
    # The state API ends well although nodes do not answer.
    assert "Failed to query data" not in said, said
    return done.stdout


assert "Active:" in output("ray", "status")
nodes = output("ray", "list", "nodes")
assert nodes.count("ALIVE") == len(ray.nodes()), nodes
assert "Here" in output("ray", "list", "actors")
assert kept.hex() in output("ray", "list", "objects", "--filter", f"object_id={kept.hex()}")
for kind in ("tasks", "workers", "jobs", "placement-groups", "runtime-envs"):
    output("ray", "list", kind)
assert "Here" in output("ray", "summary", "actors")
assert kept.hex() in output("ray", "memory")
output("ray", "health-check")
print("ok: the command line tools saw the cluster")
