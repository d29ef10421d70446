"""Read a recipe, check it, and resolve what it names."""
