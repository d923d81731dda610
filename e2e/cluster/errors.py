"""The one exception that commands turn into a sentence for a person."""


class ClusterError(Exception):
    """Something that the person at the keyboard can put right; the message says what and how."""
