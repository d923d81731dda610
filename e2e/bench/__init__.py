"""Measurements: of the operator on an API server, and of training on a cluster."""
