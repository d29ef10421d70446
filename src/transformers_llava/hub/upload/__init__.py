"""Plan and send a publication."""
