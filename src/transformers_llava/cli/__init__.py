"""The command line: `llava COMMAND ...`."""
