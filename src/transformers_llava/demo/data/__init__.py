"""Make the demo's data."""
