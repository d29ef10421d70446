"""One file per command, with `add_parser(subparsers)` and `run(args)`; heavy imports happen inside `run`."""
