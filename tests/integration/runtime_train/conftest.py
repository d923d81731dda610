from tests.integration.registry.conftest import endpoint, store

__all__ = ["endpoint", "store"]
