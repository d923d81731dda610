"""How this machine reaches a Service: by its address on the local cluster, through a port-forward on any other."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from e2e.cluster.target import Target
from e2e.support.resources import Resources, WaitedInVainError


@contextmanager
def reach(target: Target, namespace: str, service: str) -> Iterator[str]:
    """Yield the base URL of a Service."""
    found = Resources(target.kubectl, namespace).find("service", service)
    if found is None:
        raise WaitedInVainError(f"there is no Service {namespace}/{service}")
    port = found["spec"]["ports"][0]["port"]
    if target.local:
        # The service range is routed to the bridge: requests meet kube-proxy's rules, as a pod's would.
        yield f"http://{found['spec']['clusterIP']}:{port}"
        return
    with _forwarded(target, namespace, service, port) as local_port:
        yield f"http://127.0.0.1:{local_port}"


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
