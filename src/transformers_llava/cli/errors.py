"""Define what a command raises when its user asked for something that cannot be done."""


class CommandError(ValueError):
    """Cause, consequence and remedy for the user at the terminal; shown without a traceback, exit status 2."""


__all__ = ["CommandError"]
