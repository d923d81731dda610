"""`modelwright`: the registry from a terminal."""

from modelwright.cli.app import main

__all__ = ["main"]
