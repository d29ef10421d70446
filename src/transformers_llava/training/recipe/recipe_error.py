"""Name the errors that users of recipes meet; imports nothing, so that the command line can tell them early."""


class RecipeError(ValueError):
    """A recipe or flag that cannot be run as it stands: shown to the user without a traceback."""


__all__ = ["RecipeError"]
