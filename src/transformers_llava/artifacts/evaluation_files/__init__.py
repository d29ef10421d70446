"""Read and write what an evaluation leaves: predictions, and the scores that follow from them."""
