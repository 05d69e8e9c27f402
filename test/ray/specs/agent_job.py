"""Has the dashboard agent of a node run a command, as a client without Ray and without a certificate does.

Arguments: the agent's host and port, and optionally a token. It prints what the command printed: who ran it, and which of
the pod's TLS files that user finds.
"""

import json
import re
import sys
import time
import urllib.request

address = sys.argv[1]
headers = {"Content-Type": "application/json"}
if len(sys.argv) > 2:
    headers["Authorization"] = "Bearer " + sys.argv[2]


def call(path, body=None):
    request = urllib.request.Request(
        f"http://{address}/api/job_agent/jobs/{path}", headers=headers, data=None if body is None else json.dumps(body).encode()
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


job = call("", {"entrypoint": "echo ran by $(id -un), who finds $(ls /etc/ray/tls)"})["submission_id"]
deadline = time.monotonic() + 120
# The log begins with the command itself.
while not (ran := re.search(r"ran by \w+, who finds .*", logs := call(f"{job}/logs")["logs"])):
    assert time.monotonic() < deadline, f"the job printed nothing but {logs!r}"
    time.sleep(0.5)
print("ok:", ran[0])
