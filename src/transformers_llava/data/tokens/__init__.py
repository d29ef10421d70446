"""Render, encode and count examples."""
