"""The first process of a worker's container: it runs the program, and keeps the end of its output on S3.

It is started before everything else and stays for as long, so it imports little: what speaks S3 is imported by the
thread that needs it, when the program has started.
"""

STACKS_VARIABLE = "MODELWRIGHT_STACKS"
"""A folder for processes below: what they write there is kept when the program has ended, as stacks of a hang."""
