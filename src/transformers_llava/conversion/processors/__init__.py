"""Build tokenizers, image processors and templates of converted checkpoints."""
