"""Pulling a node's network plug: from one moment on nobody hears from its pods, neither a goodbye nor a refusal."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from e2e.cluster import network, shell
from e2e.cluster.members import Member
from e2e.cluster.settings import BRIDGE

_NAMESPACES = "io.containerd.grpc.v1.cri/netns"


def unplug(member: Member) -> None:
    """Take down the links of a node's pods, on the side of the bridge, and the node's own address."""
    for name in _ports(member):
        shell.attempt(["ip", "link", "set", "dev", name, "down"])
    network.remove_address(member.address)


def remove(member: Member) -> None:
    """Remove those links, and the address.

    Left to themselves, links stay for a minute or two after their pods, until sockets have given up saying goodbye.
    """
    for name in _ports(member):
        shell.attempt(["ip", "link", "delete", "dev", name])
    network.remove_address(member.address)


def _ports(member: Member) -> list[str]:
    ends = [_links(namespace, "dev", "eth0") for namespace in _namespaces(member)]
    return ports_of(_links(None, "master", BRIDGE), [link for end in ends for link in end])


def ports_of(bridge: Iterable[Mapping[str, Any]], ends: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of those links of a bridge whose other ends are the given ones, as `ip -json` tells of both."""
    peers = {end.get("link_index") for end in ends}
    return [link["ifname"] for link in bridge if link["ifindex"] in peers]


def _namespaces(member: Member) -> list[Path]:
    return sorted((member.state / _NAMESPACES).glob("*"))


def _links(namespace: Path | None, *words: str) -> list[dict[str, Any]]:
    inside = ["nsenter", f"--net={namespace}"] if namespace else []
    # A pod that is on its way in or out has none; that is no error here.
    said = shell.attempt([*inside, "ip", "-json", "link", "show", *words])
    return list(json.loads(said.stdout or "[]")) if said.returncode == 0 else []
