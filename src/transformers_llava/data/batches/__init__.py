"""Plan packs and build batches."""
