"""Sends requests to a URL one after the other until a file appears, and prints as JSON how often each answer came.

Arguments: the URL and the file. A request that fails is counted and is not repeated. Each has a connection of its own, as
clients behind a Service have that are spread over its pods.
"""

import collections
import http.client
import json
import os
import sys
import time
import urllib.request

url, end = sys.argv[1:]
answers, failures, longest = collections.Counter(), [], 0.0
deadline = time.monotonic() + 900
while not os.path.exists(end) and time.monotonic() < deadline:
    began = time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            answers[answer.read().decode()] += 1
    except (OSError, http.client.HTTPException) as error:  # an answer with an error's status is an OSError
        failures.append(f"{time.strftime('%X')}: {error}")
    longest = max(longest, time.monotonic() - began)
    time.sleep(0.1)
print(json.dumps({"answers": answers, "failures": failures, "longestSeconds": round(longest, 1)}))
