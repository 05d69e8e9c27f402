"""Submits a job over HTTP, as a client without Ray and without a certificate does, and reads its logs.

Arguments: the dashboard's host and port, a text that the job prints, and optionally a token. It prints the job's logs.
"""

import json
import sys
import time
import urllib.request

address, text, token = (sys.argv[1:] + [""])[:3]
headers = {"Content-Type": "application/json"}
if token:
    headers["Authorization"] = "Bearer " + token


def call(path, body=None):
    request = urllib.request.Request(
        f"http://{address}{path}", headers=headers, data=None if body is None else json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


code = (
    "import ray; ray.init(); "
    f"print('the job says', ray.get(ray.remote(num_cpus=0.5)(lambda: {text!r}[::-1]).remote(), timeout=120)[::-1])"
)
job = call("/api/jobs/", {"entrypoint": f'python -c "{code}"'})["submission_id"]
deadline = time.monotonic() + 180
while (status := call(f"/api/jobs/{job}")["status"]) not in ("SUCCEEDED", "FAILED", "STOPPED"):
    assert time.monotonic() < deadline, f"the job is {status} after three minutes"
    time.sleep(0.5)
logs = call(f"/api/jobs/{job}/logs")["logs"]
assert status == "SUCCEEDED", f"the job {status}: {logs}"
assert f"the job says {text}" in logs, logs
print(f"ok: job {job} succeeded")
