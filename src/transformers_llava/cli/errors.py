"""What a command says when a person asked for something that can not be done."""


class CommandError(ValueError):
    """Cause, consequence and remedy for the person at the terminal; shown without a traceback, exit status 2."""


__all__ = ["CommandError"]
