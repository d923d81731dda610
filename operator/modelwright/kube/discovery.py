"""What the cluster can do beyond what every cluster can."""

import asyncio
import logging
from collections.abc import Sequence

from modelwright.kube import errors
from modelwright.kube.client import Client
from modelwright.kube.resources import POD_GROUPS, Resource

RETRY_SECONDS = 5.0

log = logging.getLogger(__name__)


async def pod_groups(client: Client, namespaces: Sequence[str | None]) -> Resource | None:
    """Return PodGroups in the newest version that is served and may be read; None where gangs are placed pod by pod.

    Asked until there is an answer: who took silence for a no would start gangs that hold half of what they need.
    """
    while True:
        try:
            for resource in POD_GROUPS:
                if resource.kind in await client.kinds(resource.api_version):
                    return await _readable(client, resource, namespaces)
        except errors.Rejected as error:
            log.warning("the API server does not say whether it has PodGroups: %s", error.message)
            return None
        except errors.ApiError as error:
            log.warning("the API server cannot be asked for PodGroups, trying again: %s", error.message)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return None


async def look(client: Client, resource: Resource, namespaces: Sequence[str | None]) -> None:
    """List a resource in the first of some namespaces that lets us. Raises what the API server says where none does."""
    refused = None
    for namespace in namespaces:
        try:
            async for _ in client.list(resource, namespace, metadata_only=True):
                break
        except errors.Rejected as error:
            # It may be gone, and its Role with it.
            refused = error
        else:
            return
    if refused is not None:
        raise refused


async def _readable(client: Client, resource: Resource, namespaces: Sequence[str | None]) -> Resource | None:
    """Return a resource that may be listed: a watch that is refused would keep the operator from its work."""
    try:
        await look(client, resource, namespaces)
    except errors.Rejected as error:
        log.warning("PodGroups are served and cannot be used: %s", error.message)
        return None
    return resource
