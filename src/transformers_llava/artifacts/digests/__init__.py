"""Digest files, weights and tensors."""
