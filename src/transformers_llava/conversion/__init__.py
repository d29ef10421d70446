"""Checkpoints of other layouts in, ours out; ours out to the built-in layout."""
