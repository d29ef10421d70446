"""Lay out, open and count images: what both image processors and the length counting share."""
