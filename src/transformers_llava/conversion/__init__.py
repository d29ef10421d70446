"""Convert checkpoints of other layouts to ours, and ours to the built-in layout."""
