"""Counts of what a model sees and says, in the bins of its reference. Counts only: no value leaves the process."""
