"""Starts an application of Ray Serve with a replica on each of two workers, calls it, and leaves it; or stops it, with the argument
`stop`.

The proxies of the workers and the head serve HTTP on port 8000 and gRPC on port 9000.
"""

import sys
import time
import urllib.request

import ray
from ray import serve
from ray.serve.config import gRPCOptions

ray.init(address="auto", logging_level="ERROR")
if sys.argv[1:] == ["stop"]:
    serve.shutdown()
    print("ok: Serve was stopped")
    sys.exit()


@serve.deployment(num_replicas=2, max_replicas_per_node=1, ray_actor_options={"num_cpus": 0.2})
class Answer:
    def __call__(self, request):
        return "42"


serve.start(
    http_options={"host": "0.0.0.0", "port": 8000},
    grpc_options=gRPCOptions(port=9000, grpc_servicer_functions=["ray.serve.generated.serve_pb2_grpc.add_UserDefinedServiceServicer_to_server"]),
)
serve.run(Answer.bind(), name="answer", route_prefix="/")
with urllib.request.urlopen("http://127.0.0.1:8000/", timeout=60) as answer:
    assert answer.read() == b"42"
deadline = time.monotonic() + 60
while list(serve.status().proxies.values()).count("HEALTHY") < 3:
    assert time.monotonic() < deadline, serve.status()
    time.sleep(0.5)
print("ok: Serve answers")
