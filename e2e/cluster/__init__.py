"""A real one-node Kubernetes on a bare Debian machine, without Docker: ``python -m e2e.cluster up``."""
