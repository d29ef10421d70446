"""Hold one file per command, with `add_parser(subparsers)` and `run(args)`; `run` does the heavy imports."""
