"""Starts an application of Ray Serve with a replica on a worker, calls it, and leaves it; or stops it, with the argument `stop`."""

import sys
import urllib.request

import ray
from ray import serve

ray.init(address="auto", logging_level="ERROR")
if sys.argv[1:] == ["stop"]:
    serve.shutdown()
    print("ok: Serve was stopped")
    sys.exit()


@serve.deployment(ray_actor_options={"num_cpus": 0.2})
class Answer:
    def __call__(self, request):
        return "42"


serve.start(http_options={"host": "0.0.0.0", "port": 8000})
serve.run(Answer.bind(), name="answer", route_prefix="/")
with urllib.request.urlopen("http://127.0.0.1:8000/", timeout=60) as answer:
    assert answer.read() == b"42"
print("ok: Serve answers")
