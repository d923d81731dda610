"""`python -m e2e.demo`: cluster up, install, the whole loop, and a summary."""

import argparse
import os
import sys

from e2e.cluster import images, lifecycle
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import Layout
from e2e.cluster.target import Target, resolve
from e2e.demo.loop import MODEL, Loop
from e2e.support.install import DEMO_NAMESPACE, OPERATOR_NAMESPACE, Installation
from e2e.support.narrator import Narrator
from e2e.support.resources import WaitedInVainError

_PREFIX = "demo"


def main() -> None:
    """Run the demo; exit with 1 when a step did not get there."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    context = os.environ.get("MODELWRIGHT_KUBE_CONTEXT")
    parser.add_argument("--context", default=context, help="run on this kubeconfig context, not on a local cluster")
    narrator = Narrator(color=sys.stdout.isatty())
    try:
        _run(narrator, parser.parse_args().context)
    except (ClusterError, WaitedInVainError) as error:
        sys.exit(f"\nThe demo stopped: {error}")


def _run(narrator: Narrator, context: str | None) -> None:
    target = _cluster(narrator, context)
    installation = Installation(target, _PREFIX)
    loop = Loop(installation, narrator)
    with narrator.step("Install Modelwright by Helm"):
        installation.fresh_namespace(DEMO_NAMESPACE)
        installation.bucket.clear()
        installation.install()
    steps = (
        ("Bring a winter of flights to S3", loop.bring_data),
        ("Train on two pods: will a flight be late?", loop.train),
        ("Serve the champion", loop.serve),
        ("Search for something better; the winner meets the champion", loop.tune),
        ("Watch: a DriftPolicy, Prometheus, Alertmanager", loop.watch),
        ("Summer comes: live traffic moves, an alert fires", loop.drift),
        ("Retrain, pass the gate, roll out", loop.retrain),
    )
    for title, act in steps:
        with narrator.step(title):
            act()
    narrator.summary(loop.facts, _commands(target))


def _cluster(narrator: Narrator, context: str | None) -> Target:
    if context:
        return resolve(context)
    layout = Layout.default()
    with narrator.step("A real Kubernetes, an S3 server and a registry on this machine"):
        lifecycle.up(layout)
    with narrator.step("Images of this checkout"):
        images.ensure(layout)
    return resolve()


def _commands(target: Target) -> list[str]:
    scope = f"--namespace={DEMO_NAMESPACE}"
    return [
        f"export KUBECONFIG={target.kubeconfig}; alias kubectl={target.kubectl.command[0]}",
        f"kubectl get modelwright {scope}",
        f"kubectl describe driftpolicy {MODEL} {scope}",
        f"kubectl get events {scope} --sort-by=.lastTimestamp",
        f"kubectl logs deployment/modelwright-operator --namespace={OPERATOR_NAMESPACE}",
        "make cluster-down    # when you have seen enough",
    ]


if __name__ == "__main__":
    main()
