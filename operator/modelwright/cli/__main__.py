"""`python -m modelwright.cli`."""

from modelwright.cli.app import main

main()
