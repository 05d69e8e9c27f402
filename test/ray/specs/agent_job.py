"""Has the dashboard agent of a node run a command, as a client without Ray and without a certificate does.

Arguments: the agent's host and port, the dashboard's, and optionally a token for each. It prints what the command printed: who ran it,
and which of the pod's TLS files that user finds. The dashboard knows on which node the command ran, and so where its log is.
"""

import json
import re
import sys
import time
import urllib.request

agent, dashboard = sys.argv[1:3]
for_agent, for_dashboard = (sys.argv[3:] + ["", ""])[:2]


def call(url, token, body=None):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = "Bearer " + token
    request = urllib.request.Request(url, headers=headers, data=None if body is None else json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


entrypoint = "echo ran by $(id -un), who finds $(ls /etc/ray/tls)"
job = call(f"http://{agent}/api/job_agent/jobs/", for_agent, {"entrypoint": entrypoint})["submission_id"]
deadline = time.monotonic() + 120
# The log begins with the command itself.
while not (ran := re.search(r"ran by \w+, who finds .*", logs := call(f"http://{dashboard}/api/jobs/{job}/logs", for_dashboard)["logs"])):
    assert time.monotonic() < deadline, f"the job printed nothing but {logs!r}"
    time.sleep(0.5)
print("ok:", ran[0])
