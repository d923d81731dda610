"""The hands: everything of the operator that touches the network. What to do is decided in `modelwright.plan`."""
