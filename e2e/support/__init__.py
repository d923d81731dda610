"""What the demo and the end-to-end scenarios share: kubectl, waiting, data, traffic, an installed operator."""
