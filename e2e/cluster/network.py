"""The bridge that is the node's network, and the filter that keeps pods on this machine."""

import json
from ipaddress import IPv4Network
from pathlib import Path

from e2e.cluster import files, paths, shell
from e2e.cluster.settings import BRIDGE, NODE_ADDRESS, POD_RANGE, SERVICE_RANGE

_CHAIN = "MODELWRIGHT"
_SYSCTL = Path("/proc/sys/net")
_FORWARDING = _SYSCTL / "ipv4/ip_forward"
_BRIDGE_FILTER = _SYSCTL / "bridge/bridge-nf-call-iptables"

# In `mangle`, which is traversed before `filter`: no ACCEPT of kube-proxy's or Docker's can come first.
_RULES = (
    ("-i", BRIDGE, "!", "-o", BRIDGE, "-j", "DROP"),
    ("!", "-i", BRIDGE, "-o", BRIDGE, "-j", "DROP"),
)
_JUMP = ("FORWARD", "-j", _CHAIN)
# Where something else made DROP the policy for forwarded packets (Docker does), pods still reach each other.
_BETWEEN_PODS = ("FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT")


def ensure() -> bool:
    """Create the bridge, its routes and the filter where they are missing; True says that something was."""
    filtered = _ensure_filter()
    bridged = _ensure_bridge()
    return filtered or bridged


def remove() -> None:
    """Take the bridge (with its routes and pod links), the filter and the changed settings away again."""
    if _bridge_exists():
        shell.run(["ip", "link", "delete", BRIDGE])
    _delete_rules()
    _restore_sysctls()


def add_address(address: str) -> None:
    """Give the bridge one more address, of another node."""
    shell.run(["ip", "address", "replace", f"{address}/32", "dev", BRIDGE])


def remove_address(address: str) -> None:
    """Take it away again, if it is there."""
    if _bridge_exists():
        shell.attempt(["ip", "address", "delete", f"{address}/32", "dev", BRIDGE])


def conflict() -> str | None:
    """The other link that already has one of the ranges, as a sentence, or None."""
    for route in json.loads(shell.run(["ip", "-json", "route", "show"]) or "[]"):
        if route["dst"] == "default" or route.get("dev") == BRIDGE:
            continue
        taken = IPv4Network(route["dst"], strict=False)
        for network in (POD_RANGE, SERVICE_RANGE):
            if taken.overlaps(network):
                return f"the cluster needs {network}, but {taken} is routed to {route.get('dev')}"
    return None


def _bridge_exists() -> bool:
    return Path(f"/sys/class/net/{BRIDGE}").exists()


def _ensure_bridge() -> bool:
    if not _BRIDGE_FILTER.exists():
        shell.run(["modprobe", "br_netfilter"])
    _set_sysctls()
    created = not _bridge_exists()
    if created:
        shell.run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    (_SYSCTL / f"ipv6/conf/{BRIDGE}/disable_ipv6").write_text("1")
    shell.run(["ip", "address", "replace", f"{NODE_ADDRESS}/{POD_RANGE.prefixlen}", "dev", BRIDGE])
    shell.run(["ip", "link", "set", BRIDGE, "up"])
    # So that the host reaches Service addresses too: kube-proxy rewrites them before they would leave by the bridge.
    shell.run(["ip", "route", "replace", str(SERVICE_RANGE), "dev", BRIDGE, "src", NODE_ADDRESS])
    return created


def _ensure_filter() -> bool:
    wanted = [("mangle", _JUMP), ("filter", _BETWEEN_PODS), *(("mangle", (_CHAIN, *rule)) for rule in _RULES)]
    if all(_has(table, rule) for table, rule in wanted):
        return False
    _delete_rules()
    _iptables("mangle", "-N", _CHAIN)
    for rule in _RULES:
        _iptables("mangle", "-A", _CHAIN, *rule)
    _iptables("mangle", "-I", *_JUMP)
    _iptables("filter", "-A", *_BETWEEN_PODS)
    return True


def _delete_rules() -> None:
    for table, rule in (("mangle", _JUMP), ("filter", _BETWEEN_PODS)):
        if _has(table, rule):
            _iptables(table, "-D", *rule)
    if shell.attempt(["iptables", "-w", "-t", "mangle", "-S", _CHAIN]).returncode == 0:
        _iptables("mangle", "-F", _CHAIN)
        _iptables("mangle", "-X", _CHAIN)


def _has(table: str, rule: tuple[str, ...]) -> bool:
    return shell.attempt(["iptables", "-w", "-t", table, "-C", *rule]).returncode == 0


def _iptables(table: str, *words: str) -> None:
    shell.run(["iptables", "-w", "-t", table, *words])


def _previous() -> Path:
    return paths.RUN / "sysctls.json"


def _set_sysctls() -> None:
    wanted = [_FORWARDING, _BRIDGE_FILTER]
    if not _previous().exists():
        files.write_json(_previous(), {str(path): path.read_text().strip() for path in wanted})
    for path in wanted:
        if path.read_text().strip() != "1":
            path.write_text("1")


def _restore_sysctls() -> None:
    if not _previous().exists():
        return
    for path, value in json.loads(_previous().read_text()).items():
        Path(path).write_text(value)
    _previous().unlink()
