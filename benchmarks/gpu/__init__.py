"""Measure one GPU at the shapes of LLaVA-1.5 7B: random weights, no network, each question under nine minutes."""
