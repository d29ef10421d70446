"""Name the extra that a command needs, before an import of it fails somewhere else with other words."""

from importlib.util import find_spec

from transformers_llava.cli.errors import CommandError


# Extra -> modules that it brings and that commands cannot do without. `pyproject.toml` lists the packages.
# Extras that others contain come first: a missing module is asked for by the first that lists it (`extra_of`).
EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("trl", "accelerate", "peft", "datasets"),
    "hub": ("license_expression", "datasets"),
    "demo": ("sklearn", "psutil", "license_expression", "trl", "accelerate", "peft", "datasets"),
    "serve": ("fastapi", "uvicorn", "openai"),
    "evaluate": ("pandas", "openpyxl"),
    "deepspeed": ("deepspeed",),
    "quantization": ("bitsandbytes",),
    "inspect": ("matplotlib",),
    "sign": ("model_signing", "OpenSSL"),
}


def require_extra(extra: str, what: str) -> None:
    """
    Refuses to start what is not installed.

    Args:
        extra (`str`): Of this package.
        what (`str`): What needs it, such as `llava train`.

    Raises:
        `CommandError`: With the modules that are missing and the command that installs them.
    """
    missing = [name for name in EXTRAS[extra] if not _is_installed(name)]
    if missing:
        raise CommandError(
            f"{what} needs packages that are not installed ({', '.join(missing)}). `pip install "
            f"'transformers-llava[{extra}]'` brings them."
        )


def extra_of(module: str) -> str | None:
    """The first extra of the table that brings a module, such as `train` for `trl`; `None` where no extra does."""
    return next((extra for extra, modules in EXTRAS.items() if module in modules), None)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # an import hook that refuses it; a module without a specification
        return False


__all__ = ["EXTRAS", "extra_of", "require_extra"]
