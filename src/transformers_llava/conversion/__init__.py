"""Read checkpoints of other layouts, and write ours to the built-in layout."""
