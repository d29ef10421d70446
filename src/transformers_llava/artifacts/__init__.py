"""Read what lies on disk, which somebody else may have written, within stated bounds."""
