"""Reads what the dashboard tells of every node, which it asks of the agents over gRPC."""

import json
import sys
import time
import urllib.request

address, nodes = sys.argv[1], int(sys.argv[2])


def call(path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=60) as answer:
        return json.load(answer)["data"]


deadline = time.monotonic() + 90
while True:
    summary = call("/nodes?view=summary")["summary"]
    # A node whose agent the dashboard cannot reach has no figures.
    known = [n for n in summary if n.get("cpu") is not None and n["raylet"]["state"] == "ALIVE"]
    if len(known) == nodes:
        break
    assert time.monotonic() < deadline, f"the dashboard knows {len(known)} of {nodes} nodes: {json.dumps(summary)[:2000]}"
    time.sleep(1)
for node in known:
    detail = call(f"/nodes/{node['raylet']['nodeId']}")["detail"]
    assert detail["mem"][0] > 0 and detail["hostname"] == node["hostname"], detail
print(f"ok: the dashboard tells of {nodes} nodes")
