"""Evaluate a model: ask the questions of some tasks, keep the answers, and score what is kept."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from transformers_llava.artifacts.evaluation_files.evaluation_record import ResultRecord, write_evaluation
from transformers_llava.artifacts.evaluation_files.predictions import PredictionsHeader
from transformers_llava.evaluation.inference.answers_kept import (
    AnswersFile,
    check_kept,
    finish,
    predictions_path,
    read_kept,
)
from transformers_llava.evaluation.inference.asked_model import AskedModel
from transformers_llava.evaluation.inference.asked_task import AskedTask, prepare_task
from transformers_llava.evaluation.inference.generated_answers import Decoding, decoding_of
from transformers_llava.evaluation.inference.image_groups import group_by_image
from transformers_llava.evaluation.inference.loaded_model import LoadedModel, load_model
from transformers_llava.evaluation.inference.processes import Processes, this_process
from transformers_llava.evaluation.rescoring import find_predictions, rescore
from transformers_llava.evaluation.scoring.verdicts import Protocol
from transformers_llava.evaluation.tasks import Task


def evaluate(
    model: str,
    tasks: Sequence[Task],
    protocol: Protocol,
    data_root: str | Path,
    output_dir: str | Path,
    *,
    limit: int | None = None,
    batch_size: int = 8,
    revision: str | None = None,
    device: str | None = None,
    dtype: str = "auto",
    seed: int = 0,
    progress: bool = False,
) -> tuple[ResultRecord, ...]:
    """
    Ask a model what tasks ask, and score its answers.

    The same call after an interruption goes on where it was, to the same files. Under `accelerate launch` questions
    are divided among the processes, each of which holds the model.

    Args:
        model (`str`): Folder or Hub id.
        tasks (`Sequence[Task]`): Which.
        protocol (`str`): In whose words, and by whose rule.
        data_root (`str` or `Path`): What the original calls `playground/data/eval`.
        output_dir (`str` or `Path`): Gets `predictions/` and `evaluation.json`.
        limit (`int`, *optional*): The first questions of each task only.
        batch_size (`int`, *optional*, defaults to 8): Most questions about one image that are answered together.
        revision (`str`, *optional*): Of a Hub id.
        device (`str`, *optional*): The GPU of the process if there is one.
        dtype (`str`, *optional*, defaults to `"auto"`): As stored, or a type of torch.
        seed (`int`, *optional*, defaults to 0): Of the bootstrap.
        progress (`bool`, *optional*, defaults to `False`): Show a bar.

    Returns:
        `tuple[ResultRecord, ...]`: Of every predictions file of the folder; nothing in all processes but the first.

    Raises:
        ValueError: Something is missing or does not fit; before the model is loaded where it can be known then.
    """
    if batch_size < 1:
        raise ValueError(f"the batch size is {batch_size}, so no question could be asked. Set it to 1 or more.")
    asked = [prepare_task(task, protocol, data_root, limit=limit) for task in tasks]
    decodings = [decoding_of(task.protocol(protocol).decoding, task.name) for task in tasks]
    on_cpu = not torch.cuda.is_available() if device is None else device == "cpu"
    processes = this_process(on_cpu=on_cpu)
    if device is None and not on_cpu:
        device = f"cuda:{processes.local_rank}"
    loaded = load_model(model, revision=revision, device=device, dtype=dtype)
    for one, decoding in zip(asked, decodings, strict=True):
        ask(loaded, one, decoding, output_dir, batch_size=batch_size, processes=processes, progress=progress)
    if not processes.is_first:
        return ()
    records = tuple(rescore(path, data_root, seed=seed)[1] for path in find_predictions(output_dir))
    write_evaluation(output_dir, records)
    return records


def ask(
    loaded: LoadedModel,
    asked: AskedTask,
    decoding: Decoding,
    output_dir: str | Path,
    *,
    batch_size: int,
    processes: Processes,
    progress: bool = False,
) -> Path:
    """
    Ask what is not answered yet.

    Returns:
        `Path`: The predictions file, with an answer to every question in the order of the task.

    Raises:
        `PredictionsError`: The folder holds answers that were made with other settings; names them.
    """
    path = predictions_path(output_dir, asked.task.name, asked.protocol)
    header = header_of(loaded, asked, decoding)
    if processes.is_first:
        check_kept(path, header)
    processes.wait()
    known = read_kept(path).keys()
    processes.wait()  # all have read before any of them writes
    groups = group_by_image(asked.questions, batch_size)[processes.rank :: processes.count]
    model = AskedModel(loaded, asked, decoding)
    total = sum(len(batch) for group in groups for batch in group.batches)
    with (
        AnswersFile(path, header, processes.rank) as file,
        tqdm(total=total, desc=asked.task.name, unit="question", disable=not (progress and processes.is_first)) as bar,
    ):
        for group in groups:
            bar.update(sum(question.key in known for batch in group.batches for question in batch))
            for predictions in model.answers(group, known):
                file.append(predictions)
                bar.update(len(predictions))
    processes.wait()
    if processes.is_first:
        finish(path, header, [question.key for question in asked.questions])
    processes.wait()
    return path


def header_of(loaded: LoadedModel, asked: AskedTask, decoding: Decoding) -> PredictionsHeader:
    """The first line of the predictions file."""
    return PredictionsHeader(
        task=asked.task.name,
        protocol=asked.protocol,
        protocol_version=asked.task.protocol(asked.protocol).version,
        model=loaded.name,
        model_digest=loaded.digest,
        model_revision=loaded.revision,
        chat_template=loaded.template_digest,
        decoding=decoding.recorded,
        versions=loaded.versions,
        data_digest=asked.data_digest,
        num_questions=len(asked.questions),
        num_available=asked.num_available,
    )


__all__ = ["ask", "evaluate", "header_of"]
