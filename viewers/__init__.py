"""Files in, pixels and geometry out. Knows nothing of the engine."""
