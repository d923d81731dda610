"""Versity S3 Gateway on the bridge, with a name inside the cluster."""

import json
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from e2e.cluster import binaries, files, health
from e2e.cluster.paths import Layout
from e2e.cluster.ports import Address
from e2e.cluster.processes import Component
from e2e.cluster.settings import (
    CLUSTER_DOMAIN,
    NODE_ADDRESS,
    S3_BUCKET,
    S3_NAMESPACE,
    S3_PORT,
    S3_REGION,
    S3_SERVICE,
)

_ADDRESS = Address(NODE_ADDRESS, S3_PORT)
_BACK_DOOR = Address(NODE_ADDRESS, S3_PORT + 1)
HOST_ENDPOINT = f"http://{_ADDRESS}"
CLUSTER_ENDPOINT = f"http://{S3_SERVICE}.{S3_NAMESPACE}.svc.{CLUSTER_DOMAIN}:{S3_PORT}"


@dataclass(frozen=True)
class Credentials:
    """The S3 server's only account."""

    access_key: str
    secret_key: str


def credentials(layout: Layout) -> Credentials:
    """The account, made up the first time and kept with the data."""
    path = layout.s3 / "credentials.json"
    if not path.exists():
        files.write_json(path, asdict(Credentials("modelwright", secrets.token_urlsafe(24))), mode=0o600)
    return Credentials(**json.loads(path.read_text()))


def component(layout: Layout) -> Component:
    """The gateway of the local cluster."""
    (_buckets(layout) / S3_BUCKET).mkdir(parents=True, exist_ok=True)
    return gateway(binaries.path("versitygw"), _ADDRESS, _buckets(layout), credentials(layout))


def back_door(layout: Layout) -> Component:
    """A second gateway to the same buckets, for whoever wants to take one away."""
    front = component(layout)
    return replace(
        gateway(Path(front.argv[0]), _BACK_DOOR, _buckets(layout), credentials(layout)), name=f"{front.name}-back-door"
    )


def gateway(program: Path, address: Address, buckets: Path, account: Credentials) -> Component:
    """A gateway over a folder; a bucket is a folder in it."""
    options = ("--port", str(address), "--region", S3_REGION, "--health", "/healthz", "--keep-alive")
    return Component(
        "versitygw",
        (str(program), *options, "posix", str(buckets)),
        listens=(address,),
        # By environment, not by argument: arguments are for everybody to read.
        environment={"ROOT_ACCESS_KEY": account.access_key, "ROOT_SECRET_KEY": account.secret_key},
        ready=lambda: health.answers(f"http://{address}/healthz"),
    )


def manifests() -> list[dict[str, object]]:
    """A Service without a selector whose only endpoint is the host's gateway."""
    port = {"name": "http", "port": S3_PORT, "protocol": "TCP"}
    metadata = {"name": S3_SERVICE, "namespace": S3_NAMESPACE}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": S3_NAMESPACE}},
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [port]}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": metadata | {"labels": {"kubernetes.io/service-name": S3_SERVICE}},
            "addressType": "IPv4",
            "ports": [port],
            "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
        },
    ]


def _buckets(layout: Layout) -> Path:
    return layout.s3 / "buckets"
