"""Prints every TCP port on which something in this pod listens, as JSON: port, the address it is bound to, and the process.

The process is empty where it belongs to another container or another user.
"""

import ipaddress
import json
import os
import pathlib
import re


def processes():
    """Maps the inode of each socket to the process that holds it."""
    owners = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            for descriptor in (folder / "fd").iterdir():
                inode = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(descriptor))
                if inode:
                    owners[inode[1]] = command
        except OSError:
            continue  # it ended, or belongs to somebody else
    return owners


def kind(command):
    """Names a process by what Ray calls it."""
    for part, name in (
        ("gcs_server", "gcs_server"),
        ("raylet/raylet", "raylet"),
        ("dashboard/dashboard.py", "dashboard"),
        ("runtime_env/agent/main.py", "runtime_env agent"),
        ("dashboard/agent.py", "dashboard agent"),
        ("ray.util.client.server", "Ray Client server"),
        ("monitor.py", "monitor"),
        ("kuberay-autoscaler", "autoscaler"),
    ):
        if part in command:
            return name
    if command.startswith("ray-dashboard"):  # a process title
        return "dashboard"
    if command.startswith("ray::DashboardAgent"):
        return "dashboard agent"
    if command.startswith("ray::RuntimeEnvAgent"):
        return "runtime_env agent"
    if re.match(r"\S*python\S* - ", command):  # a script that is given to python's standard input, as the suite's are
        return "driver"
    return "worker process" if command.startswith("ray::") else command[:60]


def address(text):
    raw = bytes.fromhex(text)
    words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))  # each word in the machine's order
    ip = ipaddress.ip_address(words)
    return str(getattr(ip, "ipv4_mapped", None) or ip)


owners, found = processes(), {}
for table in ("/proc/net/tcp", "/proc/net/tcp6"):
    for line in pathlib.Path(table).read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":  # listening
            ip, port = fields[1].split(":")
            found[int(port, 16), address(ip)] = kind(owners.get(fields[9], ""))
print(json.dumps([{"port": p, "bound": b, "process": k} for (p, b), k in sorted(found.items())]))
