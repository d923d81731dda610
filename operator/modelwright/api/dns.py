"""How long a pod of a gang does without the names of the others. Importing this costs nothing."""

PATIENCE = 1740
"""Seconds without DNS: fewer than torchrun waits, which would not say whose address is missing."""
