"""Two sides of one question, timed in turns in one process, to a line of a results file."""
