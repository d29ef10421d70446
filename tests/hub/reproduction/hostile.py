"""List what the authors of a repository may try on whoever reproduces it, and the words each is refused with."""

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from transformers_llava.artifacts.run_record.record_file import read_checked_record
from transformers_llava.artifacts.run_record.recorded import RunRecordError
from transformers_llava.hub.publication.documents import write_documents
from transformers_llava.hub.publication.manifest import MANIFEST_NAME, write_manifest
from transformers_llava.hub.recipe_folder import write_recipe_folder


Trick = Callable[[Path, Path], None]  # of the publication, and of a folder outside that must stay as it is


def payload(victim: Path) -> str:
    """Python that leaves traces: a file outside, a program, a connection."""
    return (
        f"import os, socket\nopen({str(victim / 'ran')!r}, 'a').write('x')\nos.system('true')\n"
        "try:\n    socket.create_connection(('127.0.0.1', 9), timeout=1)\nexcept OSError:\n    pass\n"
    )


def make_consistent(folder: Path, *, recompute: bool = True) -> None:
    """Its authors write recipe, card and manifest anew, so that nothing contradicts itself."""
    repo_id = json.loads((folder / MANIFEST_NAME).read_text())["repo_id"]
    incomplete: list[str] = []
    if recompute:
        try:
            run = read_checked_record(folder)
        except RunRecordError:
            pass  # whatever stands in recipe/ then
        else:
            write_recipe_folder(run, folder)
            incomplete = write_documents(folder, repo_id, run, allow_incomplete=True, notes=[])
    write_manifest(folder, layout="builtin", repo_id=repo_id, incomplete=incomplete)


def change_run(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "run.json"
    run = json.loads(path.read_text())
    change(run)
    path.write_text(json.dumps(run))


def _file(name: str) -> Trick:
    def trick(folder: Path, victim: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(payload(victim))

    return trick


def _line_of_a_pth(folder: Path, victim: Path) -> None:
    (folder / "recipe/x.pth").write_text(f"import os; open({str(victim / 'ran')!r}, 'a')\n")


def _link(name: str, target: str) -> Trick:
    def trick(folder: Path, victim: Path) -> None:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(target.format(victim=victim))

    return trick


def _pipe(folder: Path, victim: Path) -> None:
    os.mkfifo(folder / "recipe/data/toys/more.json")


class _Call:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def _torch_pickle(name: str) -> Trick:
    """A torch archive whose pickle calls the shell."""

    def trick(folder: Path, victim: Path) -> None:
        real = io.BytesIO()
        torch.save({"state": torch.ones(1)}, real)
        with zipfile.ZipFile(real) as source, zipfile.ZipFile(folder / name, "w") as target:
            for entry in source.namelist():
                is_pickle = entry.endswith("data.pkl")
                call = pickle.dumps(_Call(f"touch {victim / 'ran'}"), protocol=2)
                target.writestr(entry, call if is_pickle else source.read(entry))

    return trick


def _bare_pickle(name: str) -> Trick:
    def trick(folder: Path, victim: Path) -> None:
        (folder / name).write_bytes(pickle.dumps(_Call(f"touch {victim / 'ran'}")))

    return trick


def _pickled_base(folder: Path, victim: Path) -> None:
    (folder / "recipe/bases/language_model/model.safetensors").unlink()
    _torch_pickle("recipe/bases/language_model/pytorch_model.bin")(folder, victim)
    from transformers_llava.artifacts.digests.file_digests import weights_digest

    digest = weights_digest(folder / "recipe/bases/language_model")
    change_run(folder, lambda run: run["previous"][0]["base_models"][0].update(digest=digest))


def _index_elsewhere(folder: Path, victim: Path) -> None:
    index = {"weight_map": {"lm_head.weight": "../../../../secret.safetensors"}}
    (folder / "recipe/bases/language_model/model.safetensors.index.json").write_text(json.dumps(index))


def _run(**changes: Any) -> Trick:
    """Fields of the record; `a__b__0` goes down, `{victim}` in a text is the folder outside."""

    def trick(folder: Path, victim: Path) -> None:
        def change(run: dict[str, Any]) -> None:
            for place, value in changes.items():
                *path, last = [int(part) if part.isdigit() else part for part in place.split("__")]
                target: Any = run
                for part in path:
                    target = target[part]
                target[last] = json.loads(json.dumps(value).replace("{victim}", str(victim)))

        change_run(folder, change)

    return trick


def _recipe_file(**fields: Any) -> Trick:
    """The recipe alone, not the record."""

    def trick(folder: Path, victim: Path) -> None:
        path = folder / "recipe/1_align.yaml"
        path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **fields}))

    return trick


def _bomb(folder: Path, victim: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 6)]
    (folder / "recipe/1_align.yaml").write_text("\n".join(lines))


_HUB_BASE = {"role": "language_model", "name": "me/x", "origin": "hub", "revision": "0" * 40, "digest": "0" * 64}

# name -> (trick, words of the refusal, whether the recipe is written anew by its authors, more arguments)
REFUSED: dict[str, tuple[Trick, str, bool, list[str]]] = {
    "argparse.py": (_file("recipe/argparse.py"), "is code or a pickle", True, []),
    "torch.py": (_file("recipe/torch.py"), "is code or a pickle", True, []),
    "a package": (_file("recipe/accelerate/__init__.py"), "is code or a pickle", True, []),
    "sitecustomize": (_file("recipe/sitecustomize.py"), "is code or a pickle", True, []),
    "usercustomize": (_file("recipe/usercustomize.py"), "is code or a pickle", True, []),
    "pth": (_line_of_a_pth, "is code or a pickle", True, []),
    "compiled": (_file("recipe/yaml.pyc"), "is code or a pickle", True, []),
    "library": (_file("recipe/data/toys/_x.so"), "is code or a pickle", True, []),
    "code beside data": (_file("recipe/data/yaml.py"), "is code or a pickle", True, []),
    "modeling code": (_file("recipe/bases/language_model/modeling_x.py"), "is code or a pickle", True, []),
    "link to a file": (_link("recipe/data/toys/train.json", "/etc/hostname"), "a link that leads out", False, []),
    "link to a folder": (_link("recipe/data", "/etc"), "a link that leads out", False, []),
    "link inside to a folder": (_link("recipe/more", "."), "a link that leads out", False, []),
    "linked checkpoint": (_link("recipe/checkpoint-9", "{victim}"), "a link that leads out", False, ["--replay"]),
    "pipe": (_pipe, "a special file", False, []),
    "optimizer": (_torch_pickle("recipe/checkpoint-2/optimizer.pt"), "would call", True, ["--replay"]),
    "random state": (_bare_pickle("recipe/checkpoint-2/rng_state.pth"), "no archive as torch", True, ["--replay"]),
    "training_args": (_bare_pickle("recipe/checkpoint-2/training_args.bin"), "none of the files", True, ["--replay"]),
    "sharded state": (_file("recipe/checkpoint-2/pytorch_model_fsdp_0/.metadata"), "none of", True, ["--replay"]),
    "pickled base": (_pickled_base, "would call", True, []),
    "index elsewhere": (_index_elsewhere, "no weight file beside it", True, []),
    "stage": (_run(stage="x/../../../../victim"), "`stage`", True, []),
    "earlier stage": (_run(previous__0__stage="x/../../../victim"), "`previous[0].stage`", True, ["--replay"]),
    "role": (_run(base_models__0__role="../../../victim"), "role", True, []),
    "data above": (_run(mixture__sources__0__path="../../../victim.json"), "no path inside", True, []),
    "data elsewhere": (_run(mixture__sources__0__path="/etc/hostname"), "no path inside", True, []),
    "images above": (_run(mixture__sources__0__image_root="../.."), "no path inside", True, []),
    "data at an address": (_run(mixture__sources__0__path="http://127.0.0.1:9/x.json"), "only addresses", True, []),
    "base at an address": (
        _run(previous__0__base_models__0={**_HUB_BASE, "name": "http://127.0.0.1:9/x"}),
        "OWNER/NAME",
        True,
        [],
    ),
    "weights": (_run(weights={"../../x.safetensors": "0" * 64}), "weights", True, []),
    "variables": (
        _run(environment={"LD_PRELOAD": "/tmp/x.so", "PYTHONPATH": "."}),
        "environment.LD_PRELOAD",
        True,
        [],
    ),
    "threads": (_run(hardware__cpu_threads="1 LD_PRELOAD=x"), "hardware.cpu_threads", True, []),
    "kernel": (_run(configuration__attn_implementation="evil/kernel"), "kernel of the Hub is code", True, []),
    "kernel in place of a library": (
        _run(configuration__attn_implementation="flash_attention_4"),
        "kernel of the Hub in its place is code",
        True,
        [],
    ),
    "compiler": (_run(configuration__torch_compile_backend="evil.module"), "torch_compile_backend", True, []),
    "template": (_run(configuration__chat_template="../../../evil.jinja"), "no packaged template", True, []),
    "checkpointing": (
        _run(configuration__gradient_checkpointing_kwargs={"context_fn": "os.system"}),
        "gradient_checkpointing_kwargs",
        True,
        [],
    ),
    "remote images": (_run(mixture__sources__0__remote_images="fetch"), "add --allow_remote_data", True, []),
    "data on the Hub": (_run(mixture__sources__0__path="hf://datasets/me/x"), "add --allow_remote_data", True, []),
    "base on the Hub": (_run(previous__0__base_models__0=_HUB_BASE), "Add --allow_base_download", True, []),
    "uploading recipe": (_recipe_file(push_to_hub=True), "push_to_hub", False, []),
    "alias bomb": (_bomb, "L1 recipe/1_align.yaml", False, []),
}

# Settings and files that are not obeyed; the same weights come out, and each of these is said.
NEUTRAL: dict[str, Any] = {
    "push_to_hub": True,
    "hub_model_id": "me/stolen",
    "report_to": ["wandb", "trackio"],
    "trackio_space_id": "me/space",
    "run_name": "{victim}",
    "use_kernels": True,
    "kernel_config": {"RMSNorm": "evil/kernel"},
    "trust_remote_code": True,
    "deepspeed": "{victim}/ds.json",
    "fsdp_config": "{victim}/fsdp.json",
    "accelerator_config": "{victim}/accelerator.json",
    "debug": ["underflow_overflow"],
    "logging_dir": "{victim}/logs",
    "resume_from_checkpoint": "{victim}/checkpoint-1",
    "output_dir": "{victim}/output",
}


def neutral(folder: Path, victim: Path) -> None:
    """All that is left out or left behind, in one publication."""
    settings = json.loads(json.dumps(NEUTRAL).replace("{victim}", str(victim)))

    def change(run: dict[str, Any]) -> None:
        run["configuration"] |= settings
        run["recipe"] |= settings
        run["command"] = f"llava train --accelerate_config evil.yaml ; touch {victim / 'ran'}\ntouch {victim / 'ran'}"
        run["hardware"]["variables"] = {"LD_PRELOAD": "x.so", "HF_ENDPOINT": "http://127.0.0.1:9"}

    change_run(folder, change)
    (folder / "recipe/evil.yaml").write_text("distributed_type: NO\nnum_processes: 1\n")
    (folder / "recipe/cpu").write_text(f"main_training_function: {payload(victim)!r}\n")
    (folder / "recipe/data/toys/README.md").write_text("---\nconfigs:\n- data_files: http://127.0.0.1:9/x\n---\n")
    adapter = {"base_model_name_or_path": "evil/base", "peft_type": "LORA"}
    (folder / "recipe/bases/language_model/adapter_config.json").write_text(json.dumps(adapter))
    config = folder / "recipe/bases/language_model/config.json"
    values = json.loads(config.read_text()) | {"auto_map": {"AutoModelForCausalLM": "evil/base--modeling_x.X"}}
    config.write_text(json.dumps(values))
