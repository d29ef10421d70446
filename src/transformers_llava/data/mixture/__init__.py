"""Build a mixture of sources, and lock what was built."""
