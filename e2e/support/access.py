"""How this machine reaches a Service: by its address on the local cluster, through a port-forward on any other."""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cluster.ports import Address, answers
from e2e.cluster.target import Target
from e2e.support.resources import Resources, WaitedInVainError

_RULES_SECONDS, _POLL_SECONDS = 10, 0.1


@contextmanager
def reach(target: Target, namespace: str, service: str) -> Iterator[str]:
    """Yield the base URL of a Service, once kube-proxy has heard of the pods behind it."""
    found = Resources(target.kubectl, namespace).find("service", service)
    if found is None:
        raise WaitedInVainError(f"there is no Service {namespace}/{service}")
    port = found["spec"]["ports"][0]["port"]
    if target.local:
        # The service range is routed to the bridge: requests meet kube-proxy's rules, as a pod's would.
        address = Address(found["spec"]["clusterIP"], port)
        _await_rules(address)
        yield f"http://{address}"
        return
    with _forwarded(target, namespace, service, port) as local_port:
        yield f"http://127.0.0.1:{local_port}"


def _await_rules(address: Address) -> None:
    """Return when somebody accepts connections: a pod is ready before every node knows the way to it."""
    deadline = time.monotonic() + _RULES_SECONDS
    while not answers(address):
        if time.monotonic() > deadline:
            raise WaitedInVainError(f"nobody answers at {address}")
        time.sleep(_POLL_SECONDS)


@contextmanager
def _forwarded(target: Target, namespace: str, service: str, port: int) -> Iterator[int]:
    command = [*target.kubectl.command, "port-forward", f"--namespace={namespace}", f"service/{service}", f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            announced = re.search(r"127\.0\.0\.1:(\d+)", process.stdout.readline())
            if announced is None:
                raise WaitedInVainError(f"kubectl port-forward to {namespace}/{service} did not start")
            yield int(announced[1])
        finally:
            process.terminate()
