"""Write `mof.yml`: what of a publication is open, under what license, in the Model Openness Framework's terms."""

from pathlib import Path

import yaml

from transformers_llava.artifacts.run_record.record_file import RUN_NAME
from transformers_llava.artifacts.run_record.run_stages import RunRecord
from transformers_llava.hub.licenses.statement import LicenseStatement


OPENNESS_NAME = "mof.yml"
_OUR_LICENSE = "Apache-2.0"


def write_openness(target: Path, run: RunRecord, statement: LicenseStatement) -> Path:
    """
    Writes the components of the Model Openness Framework 1.0 with where each is and its license.

    It states what is there; which class that makes is for the framework's own tool, and depends on licenses that are
    declared and not proven.
    """
    stages = run.stages
    data = "; ".join(dict.fromkeys(part.expression for part in statement.parts if part.kind == "data")) or "unknown"
    components = {
        "Model architecture": ("config.json", _OUR_LICENSE),
        "Data preprocessing code": ("https://pypi.org/project/transformers-llava", _OUR_LICENSE),
        "Training code": ("recipe/commands.sh", _OUR_LICENSE),
        "Inference code": ("https://pypi.org/project/transformers", _OUR_LICENSE),
        "Evaluation code": ("https://pypi.org/project/transformers-llava", _OUR_LICENSE),
        "Supporting libraries and tools": ("recipe/environment.txt", "each its own"),
        "Model parameters (final)": ("manifest.json", statement.weights_expression),
        "Datasets": ([f"recipe/{stage.name}.mixture.yaml" for stage in stages], data),
        "Model metadata": (RUN_NAME, _OUR_LICENSE),
        "Model card": ("README.md", _OUR_LICENSE),
        "Data card": ([f"recipe/{stage.name}.mixture.lock.json" for stage in stages], _OUR_LICENSE),
        "Evaluation results": ("README.md", _OUR_LICENSE),
    }
    values = {
        "framework": {"name": "Model Openness Framework", "version": "1.0"},
        "release": {
            "origin": "transformers-llava",
            "type": "multimodal language model",
            "stages": [s.name for s in stages],
        },
        "components": [
            {"name": name, "location": location, "license": license}
            for name, (location, license) in components.items()
        ],
        "statement": statement.summary,
    }
    path = target / OPENNESS_NAME
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110), encoding="utf-8")
    return path


__all__ = ["OPENNESS_NAME", "write_openness"]
