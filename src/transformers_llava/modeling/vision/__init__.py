"""Turn tiles of pixels into embeddings of the language model."""
