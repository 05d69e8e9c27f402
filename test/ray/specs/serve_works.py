"""Skips where Ray Serve cannot work: older releases ask protobuf for what its newest one no longer has."""

import sys

from ray.serve._private.config import DeploymentConfig

try:
    DeploymentConfig.from_proto_bytes(DeploymentConfig().to_proto_bytes())
except AttributeError as missing:
    if "label" not in str(missing):
        raise
    print("skip: Serve of this Ray does not work with the protobuf of its image:", missing)
    sys.exit(77)
print("ok: Serve works")
