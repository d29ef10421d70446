"""Answer questions with loaded models."""
