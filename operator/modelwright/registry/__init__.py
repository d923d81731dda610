"""Models on S3: versions that never change, aliases that move, and the store that both lie in."""
