"""Unit tests of the end-to-end tooling."""
