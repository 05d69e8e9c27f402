"""Prints the names of the metrics that Ray exports at each address that is given, as one JSON list.

Names that Prometheus' own clients export are left out: they say nothing of Ray.
"""

import json
import sys
import urllib.request

names = set()
for address in sys.argv[1:]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith("# TYPE "):
                names.add(line.split()[2])
print(json.dumps(sorted(n for n in names if n.startswith("ray_"))))
