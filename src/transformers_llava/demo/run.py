"""Run the demo: make data and parts, train a LLaVA on them, save it, load it and question it."""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoModelForImageTextToText, AutoProcessor

from transformers_llava.artifacts.run_record.record_file import read_run_record
from transformers_llava.data.mixture.config import SourceConfig
from transformers_llava.data.mixture.source import load_source
from transformers_llava.demo.base_models.pretrain import make_parts
from transformers_llava.demo.cpu_settings import prepare_cpu, release_memory
from transformers_llava.demo.data.digits import write_digits
from transformers_llava.demo.data.scenes import write_scenes
from transformers_llava.demo.data.source_files import SourceFiles
from transformers_llava.demo.data.text_only import write_text_only
from transformers_llava.demo.peak_memory import PeakMemory
from transformers_llava.demo.report.card import write_card
from transformers_llava.demo.report.page import write_report
from transformers_llava.demo.report.summary import DemoReport, Sample, SourceAccuracy
from transformers_llava.evaluation.exact_match import AnsweredQuestion, evaluate_exact_match


logger = logging.getLogger(__name__)

_APACHE = {"license": "Apache-2.0", "license_url": "https://www.apache.org/licenses/LICENSE-2.0"}
LICENSES = {  # as in mixtures/demo.yaml
    "scenes": {**_APACHE, "provenance": "rules: drawn and described by this package"},
    "digits": {
        "license": "CC-BY-4.0",
        "license_url": "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        "provenance": "human",
    },
    "text_only": {**_APACHE, "provenance": "rules: written by this package"},
}
NUM_SAMPLES = 8  # images per source in the report, asked again by a fresh process


@dataclass(frozen=True)
class DemoFolders:
    """Where each part of the demo goes."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def parts(self) -> Path:
        return self.root / "parts"

    @property
    def align(self) -> Path:
        return self.root / "align"

    @property
    def checkpoint(self) -> Path:
        return self.root / "checkpoint"


def run_demo(output_dir: Path, *, seed: int = 0) -> DemoReport:
    """
    Makes data and parts, trains both stages through `llava train`, evaluates, and writes the report.

    Args:
        output_dir (`Path`): Gets `demo_report.json`, `report.html`, `checkpoint/` (a Hub-ready folder), and what they
            were made from: `data/`, `parts/`, `align/`.
        seed (`int`, *optional*, defaults to 0): The same seed gives the same weights on the same machine.

    Raises:
        RuntimeError: If a training stage fails; the message says where its output is.
    """
    started = time.perf_counter()
    prepare_cpu()
    folders = DemoFolders(output_dir)
    with PeakMemory() as memory:
        _say("1/6", "drawing scenes and reading the handwritten digits")
        sources = _write_sources(folders.data, seed)
        _say("2/6", "making the pre-trained parts: tokenizer, CLIP tower (contrastive), language model (text alone)")
        parts = make_parts(sources, folders.parts, seed=seed)
        release_memory()
        _say("3/6", "stage 1: the projector alone learns captions")
        _train("tiny/1_align", folders.align, seed, _align_fields(sources, folders))
        _say("4/6", "stage 2: projector and language model learn to answer")
        _train("tiny/2_instruct", folders.checkpoint, seed, _instruct_fields(sources, folders))
        _say("5/6", "evaluating on held-out images, with and without looking at them")
        accuracies, samples = _evaluate(folders.checkpoint, sources)
        _say("6/6", "asking a fresh process that has only the saved folder")
        samples = _ask_fresh_process(folders.checkpoint, samples)
    found = {"align": folders.align, "instruct": folders.checkpoint}
    runs = {name: read_run_record(folder).own.to_dict() for name, folder in found.items()}
    report = DemoReport(
        seed=seed,
        seconds=time.perf_counter() - started,
        peak_memory_gb=memory.gigabytes,
        weights_sha256=runs["instruct"]["weights_sha256"],
        sources=accuracies,
        parts=parts,
        runs=runs,
        samples=samples,
    )
    write_card(report, folders.checkpoint)
    write_report(report, output_dir)
    return report


def _write_sources(folder: Path, seed: int) -> list[SourceFiles]:
    return [
        write_scenes(folder / "scenes", seed=seed, progress=True),
        write_digits(folder / "digits", seed=seed, progress=True),
        write_text_only(folder / "text_only", seed=seed),
    ]


def _align_fields(sources: Sequence[SourceFiles], folders: DemoFolders) -> dict[str, Any]:
    captions = [_source(source, source.captions) for source in sources if source.captions]
    return {
        "language_model_name_or_path": str(folders.parts / "language_model"),
        "vision_tower_name_or_path": str(folders.parts / "vision_tower"),
        "train_data": captions,
    }


def _instruct_fields(sources: Sequence[SourceFiles], folders: DemoFolders) -> dict[str, Any]:
    instructions = [_source(source, source.instructions) for source in sources]
    return {"model_name_or_path": str(folders.align), "train_data": instructions}


def _source(source: SourceFiles, file: Path) -> dict[str, Any]:
    return {
        "name": source.name,
        "path": str(file),
        "image_root": str(source.image_root),
        **LICENSES[source.name],
    }


def _train(recipe: str, output_dir: Path, seed: int, fields: dict[str, Any]) -> None:
    """Runs `llava train` as a user would; its progress shows, its printed log goes to a file."""
    output_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "transformers_llava_cli", "train", "--config", recipe]
    command += ["--accelerate_config", "cpu", "--output_dir", str(output_dir), "--seed", str(seed)]
    for name, value in fields.items():
        command += [f"--{name}", value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True)]
    log = output_dir.with_suffix(".log")
    with log.open("w", encoding="utf-8") as file:
        finished = subprocess.run(command, stdout=file, check=False)
    if finished.returncode != 0:
        raise RuntimeError(
            f"`llava train --config {recipe}` ended with status {finished.returncode}, so the demo cannot go on. The "
            f"message above says why; what it printed before is in {log}."
        )


def _evaluate(checkpoint: Path, sources: Sequence[SourceFiles]) -> tuple[list[SourceAccuracy], list[Sample]]:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    processor = AutoProcessor.from_pretrained(checkpoint)
    accuracies: list[SourceAccuracy] = []
    samples: list[Sample] = []
    for source in sources:
        if source.test is None:
            continue
        config = SourceConfig(name=source.name, path=str(source.test), image_root=str(source.image_root))
        examples, _ = load_source(config, strict=True)
        seeing = evaluate_exact_match(model, processor, examples, progress=f"{source.name}, with images")
        blind = evaluate_exact_match(
            model, processor, examples, with_images=False, progress=f"{source.name}, without images"
        )
        accuracies.append(SourceAccuracy(source.name, seeing.accuracy, blind.accuracy, seeing.num_examples))
        samples += _choose_samples(source.name, seeing.answers, examples)
    return accuracies, samples


def _choose_samples(source: str, answers: Sequence[AnsweredQuestion], examples: Any) -> list[Sample]:
    """Evenly spread over the test set, wrong answers included as they fall."""
    step = max(1, len(answers) // NUM_SAMPLES)
    chosen = range(0, step * NUM_SAMPLES, step)
    return [
        Sample(
            source, Path(examples[i]["images"][0]["path"]), answers[i].question, answers[i].truth, answers[i].answer
        )
        for i in chosen
        if i < len(answers)
    ]


def _ask_fresh_process(checkpoint: Path, samples: list[Sample]) -> list[Sample]:
    """The same questions through `pipeline("image-text-to-text")` in a new interpreter."""
    asked = [{"image": str(sample.image), "question": sample.question} for sample in samples]
    command = [sys.executable, "-m", "transformers_llava.demo.ask", str(checkpoint)]
    finished = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        raise RuntimeError(
            f"the saved checkpoint {checkpoint} does not answer in a fresh process, so it would not for anybody else "
            f"either:\n{finished.stderr[-2000:]}"
        )
    answers = json.loads(finished.stdout)
    return [sample.answered_again(answer) for sample, answer in zip(samples, answers, strict=True)]


def _say(step: str, what: str) -> None:
    logger.info("[%s] %s", step, what)


__all__ = ["DemoFolders", "run_demo"]
