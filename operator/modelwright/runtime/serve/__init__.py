"""The prediction server: one registered version, ONNX Runtime, a bare ASGI application."""
