"""Render, merge and validate model cards."""
