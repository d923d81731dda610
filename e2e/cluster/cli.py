"""The commands of ``python -m e2e.cluster``."""

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from e2e import cluster
from e2e.cluster import binaries, images, lifecycle, progress, second_node, standalone
from e2e.cluster.addons import Addon
from e2e.cluster.errors import ClusterError
from e2e.cluster.kuberay import KubeRay
from e2e.cluster.kueue import Kueue
from e2e.cluster.paths import Layout

_Command = Callable[[argparse.Namespace], int]
_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 (it has no other name)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; what a person can put right is said in a sentence, without a traceback."""
    arguments = _parser().parse_args(argv)
    command: _Command = arguments.command
    try:
        return command(arguments)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the command again to go on", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m e2e.cluster", description=cluster.__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add(commands, "up", _up, "bring the cluster up, or repair it")
    down = _add(commands, "down", _down, "stop it and clean up; pulled and pushed images stay")
    down.add_argument("--purge", action="store_true", help="delete pulled and pushed images too")
    _add(commands, "status", _status, "say what runs, and where its log is")
    _add(commands, "binaries", _binaries, "only build Kubernetes, CoreDNS, the S3 gateway, Helm, KubeRay and Kueue")
    image = _add(commands, "images", _images, "build, push and pull the images of this checkout")
    image.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(images.NAMES)}; all if none is named"
    )
    second = _add(commands, "second-node", None, "a second node beside the first, and the loss of it")
    _add_second_node(second.add_subparsers(required=True, metavar="COMMAND"))
    for addon in (KubeRay(), Kueue()):
        described = _add(commands, addon.tool, None, f"{addon.title}, for who needs it")
        _add_addon(described.add_subparsers(required=True, metavar="COMMAND"), addon)
    plane = _add(commands, "control-plane", _control_plane, "run an API server without a node until interrupted")
    plane.add_argument("--controller-manager", action="store_true", help="with the built-in controllers")
    return parser


def _add_second_node(commands: _Commands) -> None:
    """Only for a cluster that `up` has brought up on this machine."""
    _add(commands, "up", partial(_second_node, second_node.up), "bring it up anew; it has the images of the first")
    _add(commands, "lose", partial(_second_node, second_node.lose), "have it vanish: no network, all processes killed")
    _add(commands, "remove", partial(_second_node, second_node.remove), "remove it, lost or not, with its pods")


def _add_addon(commands: _Commands, addon: Addon) -> None:
    up, remove = partial(_addon, addon, addon.up), partial(_addon, addon, addon.remove)
    _add(commands, "up", up, "build it the first time, install it, and wait until it runs")
    _add(commands, "remove", remove, "remove it, with all that it was given to run")


def _add(commands: _Commands, name: str, command: _Command | None, text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=command)
    return parser


def _up(_: argparse.Namespace) -> int:
    layout = Layout.default()
    lifecycle.up(layout)
    print(f"export KUBECONFIG={shlex.quote(str(layout.kubeconfig))}")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    lifecycle.down(Layout.default(), purge=arguments.purge)
    return 0


def _status(_: argparse.Namespace) -> int:
    layout = Layout.default()
    conditions = lifecycle.status(layout)
    print(f"{'COMPONENT':<25}{'PID':<9}{'STATE':<7}LOG")
    for condition in (*conditions, *lifecycle.second_node_status(layout)):
        state = "up" if condition.up else "down"
        print(f"{condition.name:<25}{condition.pid or '-':<9}{state:<7}{condition.log}")
    return 0 if all(condition.up for condition in conditions) else 1


def _second_node(action: Callable[[Layout], object], _: argparse.Namespace) -> int:
    with second_node.reserved():
        action(Layout.default())
    return 0


def _addon(addon: Addon, action: Callable[[Layout], object], _: argparse.Namespace) -> int:
    with addon.reserved():
        action(Layout.default())
    return 0


def _binaries(_: argparse.Namespace) -> int:
    binaries.build()
    for module in binaries.MODULES:
        for program in module.packages:
            print(module.output(program))
    return 0


def _images(arguments: argparse.Namespace) -> int:
    if unknown := set(arguments.names) - set(images.NAMES):
        raise ClusterError(f"there is no image {', '.join(unknown)}; there are {', '.join(images.NAMES)}")
    for name, reference in images.ensure(Layout.default(), arguments.names or images.NAMES).items():
        print(f"{name:<12}{reference}")
    return 0


def _control_plane(arguments: argparse.Namespace) -> int:
    with standalone.control_plane(controller_manager=arguments.controller_manager) as kubeconfig:
        print(f"export KUBECONFIG={shlex.quote(str(kubeconfig))}", flush=True)
        progress.say("running until interrupted")
        _await_interrupt()
    return 0


def _await_interrupt() -> None:
    """Return on Ctrl-C and on a polite kill alike, so that both clean up."""
    ended = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: ended.set())
    ended.wait()
