"""Measurements on a real API server."""
