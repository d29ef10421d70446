"""Turn a finished run into a publication that others can check and rebuild."""
