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
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


assert "Active:" in output("ray", "status")
assert "ALIVE" in output("ray", "list", "nodes")
assert "Here" in output("ray", "list", "actors")
for kind in ("tasks", "workers", "objects", "jobs", "placement-groups", "runtime-envs"):
    output("ray", "list", kind)
assert "Here" in output("ray", "summary", "actors")
assert "object" in output("ray", "memory").lower()
output("ray", "health-check")
print("ok: the command line tools saw the cluster")
