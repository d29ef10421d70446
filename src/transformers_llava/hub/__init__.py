"""A finished run to a publication that a stranger can check and rebuild."""
