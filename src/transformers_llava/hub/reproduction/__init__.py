"""Train a publication again."""
