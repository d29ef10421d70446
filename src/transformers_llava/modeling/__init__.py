"""Configuration, model, processor: files that transformers can also load alone, as remote code from a Hub folder."""
