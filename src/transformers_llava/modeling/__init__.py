"""Define configuration, model and processor of `open_llava`, by transformers' file roles."""
