"""Check one thing each of a publication: files, weights, what can be computed again, data, retrained weights."""
