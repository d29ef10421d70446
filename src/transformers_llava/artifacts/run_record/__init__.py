"""Read and write `run.json`: what was run, on what, from which data, and what came of it."""
