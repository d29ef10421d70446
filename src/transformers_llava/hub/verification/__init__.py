"""Check a publication, level by level."""
