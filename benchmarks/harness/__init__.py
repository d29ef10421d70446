"""Time two sides of one question in turns, in one process, and write a line of a results file."""
