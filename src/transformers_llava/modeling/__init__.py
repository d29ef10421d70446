"""Define configuration, model and processor, in files that transformers can also load alone, as remote code."""
