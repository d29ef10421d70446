"""Write the parts of a card from a run record, each a piece of Markdown about one thing."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from transformers_llava.artifacts.card_facts import CardFacts
from transformers_llava.artifacts.run_record.base_model import BaseModel
from transformers_llava.artifacts.run_record.mixture_sources import MixtureSource
from transformers_llava.artifacts.run_record.run_stages import Stage
from transformers_llava.hub.cards.loss_curve import CURVES_NAME, losses_of, num_not_finite
from transformers_llava.hub.cards.markdown import write_table
from transformers_llava.hub.licenses.statement import LicenseStatement
from transformers_llava.hub.recipe_folder import RECIPE_FOLDER, training_arguments


HYPERPARAMETERS = (
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "num_train_epochs", "max_steps"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "max_grad_norm", "weight_decay", "optim"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "bf16", "gradient_checkpointing", "max_length", "chat_template"),
    *("image_aspect_ratio", "packed", "attn_implementation", "seed"),
)


def summary_part(facts: CardFacts, stages: Sequence[Stage]) -> str:
    """What it is and for whom, as far as somebody has said so."""
    names = [base.name for stage in stages for base in stage.own_bases]
    text = [
        facts.summary or f"A LLaVA made of {_and(names)}, trained in {len(stages)} stage{'s' * (len(stages) > 1)}."
    ]
    text += [f"**Note.** {note}" for note in facts.notes]
    for heading, words in (("Intended use", facts.intended_use), ("Out of scope", facts.out_of_scope)):
        text += [f"**{heading}.** {words}"] if words else []
    text += [f"**Limitations.** {facts.limitations}"] if facts.limitations else []
    text += [f"**Contact.** {facts.contact}"] if facts.contact else []
    return "\n\n".join(text)


def usage_part(repo_id: str, layout: str, facts: CardFacts) -> str:
    """Code that runs as it stands, but for the image; and for the name, where there is no owner yet."""
    if facts.usage is not None:
        return f"## Use\n\n{facts.usage.strip()}"
    registers = (
        "import transformers_llava  # registers the model with transformers\n" if layout == "open_llava" else ""
    )
    replace = "" if "/" in repo_id else f"  # a folder of this name; on the Hub it has an owner: OWNER/{repo_id}"
    return (
        "## Use\n\n```python\n"
        f"{registers}from transformers import pipeline\n\n"
        f'answerer = pipeline("image-text-to-text", model={_literal(repo_id)}){replace}\n'
        'question = [{"type": "image", "path": "image.png"}, '
        f'{{"type": "text", "text": {_literal(facts.prompt)}}}]\n'
        'answer = answerer(text=[{"role": "user", "content": question}], return_full_text=False)\n'
        'print(answer[0]["generated_text"])\n```'
    )


def _literal(text: str) -> str:
    """A text as Python writes it, on one line, and without what would end the block of code."""
    return json.dumps(text, ensure_ascii=False).replace("`", "\\x60" if "```" in text else "`")


def architecture_part(config: dict[str, Any], stages: Sequence[Stage]) -> str:
    """Base models with their commits, sizes, and what each stage trained of them."""
    rows = []
    for stage in stages:
        for base in stage.own_bases:
            at = base.revision or "folder of the trainer"
            rows.append([_role(base), base.name, f"`{at}`", f"`{_short(base.digest)}`"])
    vision, text = config["vision_config"], config["text_config"]
    facts = [
        f"vision tower `{vision['model_type']}`, {vision['image_size']} pixels, patches of {vision['patch_size']}",
        f"language model `{text['model_type']}`, {text['num_hidden_layers']} layers of {text['hidden_size']}",
        f"features of layer {config['vision_feature_layer']}",
    ]
    tables = [write_table(["component", "base", "revision", "weights sha256"], rows), "; ".join(facts) + "."]
    for stage in stages:
        trained = [[row.component, row.mode, f"{row.parameters:,}", f"{row.trainable:,}"] for row in stage.components]
        tables.append(
            f"Stage `{stage.name}`:\n\n" + write_table(["component", "mode", "parameters", "trained"], trained)
        )
    return "## Architecture\n\n" + "\n\n".join(tables)


def bases_part(stages: Sequence[Stage]) -> str:
    """Base models of a model of which there is no record: names, without commits."""
    rows = [[_role(base), base.name, "not recorded"] for stage in stages for base in stage.own_bases]
    modes = [[f"`{stage.name}`", *(_mode(stage.configuration.get(name)) for name in _COMPONENTS)] for stage in stages]
    settings = stages[0].configuration
    facts = ", ".join(
        f"{name} `{settings[name]}`" for name in ("projector_type", "vision_feature_layer") if name in settings
    )
    tables = [write_table(["component", "base", "revision"], rows), facts + "." if facts else ""]
    return "## Architecture\n\n" + "\n\n".join([*filter(None, tables), write_table(["stage", *_COMPONENTS], modes)])


def recipes_part(stages: Sequence[Stage], facts: CardFacts) -> str:
    """Hyper-parameters and commands of packaged recipes, whose each is, and what is said of hardware and time."""
    commands = "\n".join(f"llava train --config {stage.recipe['name']}" for stage in stages)
    text = ["## Training"]
    if facts.own_settings:
        text += [
            "As the authors published it, in their paper, README, scripts and the defaults of their code:",
            _hyperparameters(stages, [name for name in HYPERPARAMETERS if name not in facts.own_settings]),
        ]
        said = [words for words in (facts.hardware, facts.time) if words]
        text += [", ".join(said) + "."] if said else []
        ours = write_table(["", *(f"`{stage.name}`" for stage in stages)], _settings(stages, facts.own_settings))
        text += [
            " ".join(filter(None, ["Settings of our recipes, which are not the authors':", facts.own_settings_note])),
            ours,
        ]
    else:
        text.append(_hyperparameters(stages, HYPERPARAMETERS))
    text += ["As packaged recipes of transformers-llava:", f"```bash\n{commands}\n```"]
    if not facts.own_settings:
        said = [words for words in (facts.hardware, facts.time) if words]
        text += [", ".join(said) + "."] if said else []
    return "\n\n".join(text)


_COMPONENTS = ("vision_tower", "multi_modal_projector", "language_model")


def _mode(setting: Any) -> str:
    return (setting or {}).get("mode", "frozen") if isinstance(setting, dict | None) else str(setting)


def data_part(stages: Sequence[Stage]) -> str:
    """The mixture of every stage: counts, proportions, licenses, digests."""
    return "## Training data\n\n" + "\n\n".join(_mixture(stage) for stage in stages)


def _mixture(stage: Stage) -> str:
    data = stage.data
    stated = {source.name: source for source in stage.sources}
    of_tokens = stage.proportions_of_tokens
    rows = []
    for source in data.sources:
        declared = stated.get(source.name, MixtureSource(source.name))
        rows.append(
            [
                source.name,
                _counted(source.num_used, ","),
                _counted(source.proportion, ".1%"),
                _counted(of_tokens.get(source.name), ".1%"),
                _counted(source.num_images, ","),
                declared.license or "unknown",
                declared.provenance or "unknown",
                f"`{_short(source.digest)}`",
            ]
        )
    header = ["source", "examples", "of examples", "of tokens", "images", "license", "answers by", "content"]
    text = f"Stage `{stage.name}`"
    if data.num_used is not None:
        text += f", {data.num_used:,} examples"
        text += ", as published" if data.num_dropped is None else f", {data.num_dropped:,} records left out"
    if data.streaming:
        text += ", read as a stream, whose records are counted as they come and not beforehand"
    tables = [f"{text}:", write_table(header, rows)]
    for name, whole in stated.items():
        if whole.parts:
            tables += [
                f"`{name}` is made of:",
                write_table(["part", "examples", "license", "answers by"], list(_parts(whole))),
            ]
    return "\n\n".join(tables)


def _counted(value: float | None, form: str) -> str:
    return "not counted" if value is None else format(value, form)


def _parts(source: MixtureSource) -> Iterator[list[str]]:
    for part in source.parts:
        by = part.teacher or part.provenance or "unknown"
        yield [part.name, _counted(part.num_examples, ","), part.license or "unknown", by]


def training_part(stages: Sequence[Stage], facts: CardFacts, *, has_curve: bool) -> str:
    """Hyper-parameters side by side, commands, hardware and time, losses."""
    commands = "\n".join("llava " + " ".join(training_arguments(stage)) for stage in stages)
    text = [
        "## Training",
        _hyperparameters(stages, HYPERPARAMETERS),
        f"Every setting in force is in `{RECIPE_FOLDER}/`; from inside that folder:",
        f"```bash\n{commands}\n```",
        *(_run(stage, facts) for stage in stages),
    ]
    if has_curve:
        text.append(f"![Loss of every stage, by step]({CURVES_NAME})")
    return "\n\n".join(text)


def _hyperparameters(stages: Sequence[Stage], names: Iterable[str]) -> str:
    rows = _settings(stages, names)
    rows.append(["examples per optimizer step", *(str(_global_batch(stage)) for stage in stages)])
    return write_table(["", *(f"`{stage.name}`" for stage in stages)], rows)


def _settings(stages: Sequence[Stage], names: Iterable[str]) -> list[list[str]]:
    return [
        [f"`{name}`", *(_value(stage.configuration.get(name)) for stage in stages)]
        for name in names
        if any(stage.configuration.get(name) is not None for stage in stages)
    ]


def _run(stage: Stage, facts: CardFacts) -> str:
    progress, hardware = stage.progress, stage.hardware
    losses = losses_of(stage)
    words = [
        f"`{stage.name}`: {progress.global_step or 0:,} steps",
        facts.hardware or f"{hardware.world_size} x {hardware.device or 'unknown'}",
    ]
    if progress.seconds:
        words.append(facts.time or f"{progress.seconds / 60:.1f} minutes")
        if progress.num_tokens:
            words.append(f"{progress.num_tokens / progress.seconds:,.0f} tokens/s")
    if progress.peak_memory_gb:
        words.append(f"{progress.peak_memory_gb:.2f} GB")
    if losses:
        words.append(f"loss {losses[0][1]:.3f} at step {losses[0][0]}, {losses[-1][1]:.3f} at step {losses[-1][0]}")
    if count := num_not_finite(stage):
        words.append(f"{count:,} logged losses were no number")
    return ", ".join(words) + "."


def license_part(statement: LicenseStatement) -> str:
    """Verdict, parts, and the sentences that licenses ask for."""
    text = ["## License", statement.summary, statement.table(), "What this asks for is in `LICENSE.md`."]
    return "\n\n".join([*text, *statement.displays, *statement.notices])


def verification_part(repo_id: str, stages: Sequence[Stage]) -> str:
    """How to check it and how to make it again."""
    versions = stages[-1].versions
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        "## Verify and reproduce\n\n```bash\npip install 'transformers-llava[train,hub]'\n"
        f"llava verify {repo_id}\nllava reproduce {repo_id} again\n```\n\n"
        f"Trained with {known}; all packages are in `{RECIPE_FOLDER}/environment.txt`."
    )


def citation_part(facts: CardFacts) -> str:
    """LLaVA's own papers, and what a user added."""
    return (
        "## Citation\n\n```bibtex\n" + "\n\n".join([*_PAPERS, *(text.strip() for text in facts.citations)]) + "\n```"
    )


_PAPERS = (
    "@inproceedings{liu2023llava,\n  title={Visual Instruction Tuning},\n"
    "  author={Liu, Haotian and Li, Chunyuan and Wu, Qingyang and Lee, Yong Jae},\n"
    "  booktitle={NeurIPS},\n  year={2023}\n}",
    "@misc{liu2023improvedllava,\n  title={Improved Baselines with Visual Instruction Tuning},\n"
    "  author={Liu, Haotian and Li, Chunyuan and Li, Yuheng and Lee, Yong Jae},\n  publisher={arXiv:2310.03744},\n"
    "  year={2023}\n}",
)


def _role(base: BaseModel) -> str:
    return base.role.replace("_", " ")


def _global_batch(stage: Stage) -> int:
    settings = stage.configuration
    per_process = settings["per_device_train_batch_size"] * settings["gradient_accumulation_steps"]
    return per_process * stage.hardware.world_size


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(digest: str | None) -> str:
    return digest.removeprefix("sha256:")[:12] if digest else "unknown"


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


__all__ = [
    "architecture_part",
    "bases_part",
    "citation_part",
    "data_part",
    "license_part",
    "recipes_part",
    "summary_part",
    "training_part",
    "usage_part",
    "verification_part",
]
