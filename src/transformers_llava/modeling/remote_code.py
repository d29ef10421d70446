"""Make a saved folder loadable with `trust_remote_code=True` where this package is installed but not imported.

One small file in the folder points to the package's own classes. So a checkpoint carries no copy of the code that
could grow old, and without the package transformers says which one to install.
"""

import json
from pathlib import Path
from typing import Any


MODULE = "open_llava_in_transformers_llava"
_CLASSES = {
    "OpenLlavaConfig": "configuration_open_llava",
    "OpenLlavaForConditionalGeneration": "modeling_open_llava",
    "OpenLlavaModel": "modeling_open_llava",
    "OpenLlavaProcessor": "processing_open_llava",
}
_AUTO_MAPS = {
    "config.json": {
        "AutoConfig": "OpenLlavaConfig",
        "AutoModel": "OpenLlavaModel",
        "AutoModelForImageTextToText": "OpenLlavaForConditionalGeneration",
        "AutoModelForMultimodalLM": "OpenLlavaForConditionalGeneration",
        "AutoProcessor": "OpenLlavaProcessor",
    },
    "processor_config.json": {"AutoProcessor": "OpenLlavaProcessor"},
}


def add_remote_code(folder: str | Path) -> None:
    """
    Adds the file and `auto_map` entries to a folder that `save_pretrained` has written.

    Contract: safe to call again after more files were saved there; entries of others are kept.
    """
    folder = Path(folder)
    lines = [
        "# The classes of this checkpoint are those of the package: `pip install transformers-llava`.",
        *(
            f"from transformers_llava.modeling.{module} import {name}  # noqa: F401"
            for name, module in _CLASSES.items()
        ),
    ]
    (folder / f"{MODULE}.py").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, auto_map in _AUTO_MAPS.items():
        if (folder / name).is_file():
            settings: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
            entries = {auto_class: f"{MODULE}.{class_name}" for auto_class, class_name in auto_map.items()}
            settings["auto_map"] = {**settings.get("auto_map", {}), **entries}
            (folder / name).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


__all__ = ["MODULE", "add_remote_code"]
