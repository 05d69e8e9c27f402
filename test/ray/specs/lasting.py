"""Calls a detached actor that the first call makes, and prints the actor's name of itself.

GCS fault tolerance keeps the actor over the end of the head. An actor that is made anew has another name.
"""

import uuid

import ray

ray.init(address="auto", namespace="raytls", logging_level="ERROR")


@ray.remote(num_cpus=0.5)
class Lasting:
    def __init__(self):
        self.name = uuid.uuid4().hex

    def tell(self):
        return self.name


lasting = Lasting.options(name="lasting", lifetime="detached", get_if_exists=True).remote()
print(f"lasting actor: {ray.get(lasting.tell.remote(), timeout=60)}")
