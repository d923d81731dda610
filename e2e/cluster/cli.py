"""The commands of ``python -m e2e.cluster``."""

import argparse
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from e2e import cluster
from e2e.cluster import binaries, images, lifecycle, progress, standalone
from e2e.cluster.errors import ClusterError
from e2e.cluster.paths import Layout


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; what a person can put right is said in a sentence, without a traceback."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
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
    _add(commands, "binaries", _binaries, "only build Kubernetes, CoreDNS, the S3 gateway and Helm")
    image = _add(commands, "images", _images, "build, push and pull the images of this checkout")
    image.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(images.NAMES)}; all if none is named"
    )
    plane = _add(commands, "control-plane", _control_plane, "run an API server without a node until interrupted")
    plane.add_argument("--controller-manager", action="store_true", help="with the built-in controllers")
    return parser


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    command: Callable[[argparse.Namespace], int],
    text: str,
) -> argparse.ArgumentParser:
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
    conditions = lifecycle.status(Layout.default())
    print(f"{'COMPONENT':<25}{'PID':<9}{'STATE':<7}LOG")
    for condition in conditions:
        state = "up" if condition.up else "down"
        print(f"{condition.name:<25}{condition.pid or '-':<9}{state:<7}{condition.log}")
    return 0 if all(condition.up for condition in conditions) else 1


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
