"""Skips where Ray Serve cannot work: older releases ask protobuf for what its newest one no longer has."""

import inspect
import sys

from google.protobuf.descriptor import FieldDescriptor
from ray.serve._private import config

if "field.label" in inspect.getsource(config) and not hasattr(FieldDescriptor, "label"):
    print("skip: Serve of this Ray does not work with the protobuf of its image")
    sys.exit(77)
print("ok: Serve works")
