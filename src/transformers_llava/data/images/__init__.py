"""Find, fetch and decode images."""
