"""Parse the command line `llava COMMAND ...` and run the command."""
