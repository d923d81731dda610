"""Modelwright: the machine-learning engineer's loop as four Kubernetes resources."""

__version__ = "0.1.0"
