"""Train the demo's small base models."""
