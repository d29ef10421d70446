"""Report what the demo did."""
