"""Read and write `run.json`: what was trained, from which models and data, on which machine, with what result."""
