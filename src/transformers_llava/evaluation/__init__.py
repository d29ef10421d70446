"""Measure what a model gets right, as typed results that the card and the report print."""
