"""Loaded models to answers."""
