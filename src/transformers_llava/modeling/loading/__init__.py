"""Complete what `from_pretrained` is about to load."""
