"""An extended resource of a node: room that a scenario gives and takes without touching anybody's CPU."""

import json

from e2e.cluster.settings import SECOND_NODE
from e2e.scenarios.space import Space
from e2e.scenarios.waiting import eventually
from e2e.support.resources import Object


class Slots:
    """So many slots of the node, of which every worker wants one. Files that run at a time need different names."""

    def __init__(self, space: Space, name: str) -> None:
        self._space, self._name = space, name
        # Another scenario may have a second node at this time, which is not for everybody.
        (node,) = space.kubectl.get("nodes", f"--selector=!{SECOND_NODE}")["items"]
        self._node = str(node["metadata"]["name"])

    @property
    def one(self) -> Object:
        """The `resources` of a worker that wants a slot."""
        return {"requests": {self._name: "1"}, "limits": {self._name: "1"}}

    def set(self, count: int | None) -> None:
        """Give the node so many; pods that have one keep it. Returns when the scheduler can know."""
        amount = None if count is None else str(count)
        # The kubelet would copy it from the capacity within ten seconds.
        body = {"status": {"capacity": {self._name: amount}, "allocatable": {self._name: amount}}}
        patch = ["patch", "node", self._node, "--subresource=status", "--type=merge", f"--patch={json.dumps(body)}"]
        self._space.kubectl.run(*patch)
        eventually(lambda: self._allocatable() == amount, f"the node does not have {amount} slots")

    def _allocatable(self) -> str | None:
        node = json.loads(self._space.kubectl.run("get", "node", self._node, "--output=json"))
        found = node["status"]["allocatable"].get(self._name)
        return None if found is None else str(found)
