"""Is an application of Ray Serve with two deployments, of which the first asks the second for each answer.

The answer names the application's release and the RayCluster that gives it.
"""

import os

from ray import serve
from ray.serve.handle import DeploymentHandle

small = serve.deployment(ray_actor_options={"num_cpus": 0.1})


@small
class Second:
    async def __call__(self, text: str) -> str:
        assert text == os.environ["MARKER"], text
        return f"{os.environ['RELEASE']} of {os.environ['RAY_CLUSTER_NAME']}"


@small
class First:
    def __init__(self, second: DeploymentHandle):
        self.second = second

    async def __call__(self, request) -> str:
        return await self.second.remote(os.environ["MARKER"])


app = First.bind(Second.bind())
