"""Start `llava` without importing torch.

A module of its own beside the package: importing `transformers_llava` registers the model with transformers, which
imports torch and takes seconds. `llava --help` needs neither, and `llava train` starts another process that imports
both. Contract: the package looks whether this module is imported, and then registers only when it is asked to.
"""

import sys


sys.modules.setdefault("transformers_llava_cli", sys.modules[__name__])  # `python -m` calls it `__main__`


def main() -> int:
    """The command `llava`; see [`transformers_llava.cli.main.main`]."""
    from transformers_llava.cli.main import main as run

    return run()


__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
