"""`llava evaluate`: ask a model what benchmarks ask, list them, and score answers again or of the original."""

import argparse
from pathlib import Path
from typing import Any

from transformers_llava.cli.errors import CommandError


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "evaluate",
        help="ask a model what benchmarks ask, and score its answers",
        epilog="Example: llava evaluate my-checkpoint --tasks pope,mme --data_root playground/data/eval --output_dir "
        "out. The same line after an interruption goes on where it was.",
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("model", nargs="?", metavar="MODEL", help="folder or Hub id to ask; needs --tasks, --output_dir")
    what.add_argument("--list", action="store_true", help="tasks: questions, where to get them, who scores them")
    what.add_argument(
        "--rescore", type=Path, metavar="OUT", help="score OUT/predictions/*.jsonl; writes evaluation.json"
    )
    what.add_argument("--answers", type=Path, metavar="FILE", help="score an answers file of the original's scripts")
    for name, text in (("--compare", "list the answers that differ"), ("--explain", "say what their gap is made of")):
        what.add_argument(name, nargs=2, type=Path, metavar=("A", "B"), help=f"of two predictions files: {text}")
    parser.add_argument("--data_root", type=Path, metavar="DIR", help="what the original calls playground/data/eval")
    parser.add_argument("--tasks", default="all", help="names with commas; --answers takes one (default: all)")
    parser.add_argument("--questions", type=Path, metavar="FILE", help="of a task of your own, for --answers")
    parser.add_argument("--scorer", default="exact_match", help="of a task of your own (default: exact_match)")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap intervals (default: 0)")
    asking = parser.add_argument_group("of MODEL")
    asking.add_argument("--output_dir", type=Path, metavar="OUT", help="gets predictions/ and evaluation.json")
    asking.add_argument(
        "--protocol", default="llava-1.5", help="llava-1.5 or lmms-eval: words and rules (default: llava-1.5)"
    )
    asking.add_argument("--limit", type=int, metavar="N", help="the first N questions of a task; partial for good")
    asking.add_argument("--batch_size", type=int, default=8, help="questions about one image at once (default: 8)")
    asking.add_argument("--revision", help="of a Hub id (default: main)")
    asking.add_argument("--device", help="cpu, cuda:0, ... (default: a GPU if there is one)")
    asking.add_argument("--dtype", default="auto", help="auto (as stored), float32, bfloat16, ... (default: auto)")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    if args.list:
        _list(args.tasks)
    elif args.answers is not None and args.questions is not None:
        _own(args)
    elif args.data_root is None:
        raise CommandError(
            "the right answers lie in the benchmarks' own files. Name their folder with --data_root; `llava evaluate "
            "--list` says what lies where in it."
        )
    elif args.model is not None:
        _ask(args)
    elif args.compare or args.explain:
        _compare(args)
    elif args.rescore is not None:
        _rescore(args)
    else:
        _answers(args)


def _list(names: str) -> None:
    from transformers_llava.evaluation.tasks import load_tasks

    for task in load_tasks(names):
        print(f"{task.name}: {task.title}, {task.num_questions:,} questions, license {task.license}")
        files = [name for name in (task.questions, task.all_questions, task.annotations, task.images) if name]
        print(f"  in DATA_ROOT/{task.folder}: {', '.join(dict.fromkeys(files))}")
        for source in task.source:
            print(f"  from {source}")
        for name, protocol in task.protocols.items():
            reported = f", reported is {protocol.headline}" if protocol.headline else ""
            note = f" ({protocol.note})" if protocol.note else ""
            where = "here" if protocol.scored == "here" else f"by a {protocol.scored}"
            print(f"  {name}: scored {where}{reported}{note}")


def _ask(args: argparse.Namespace) -> None:
    if args.output_dir is None or args.tasks == "all":
        raise CommandError(
            "to ask a model, name the tasks with --tasks, such as --tasks pope,mme, and with --output_dir the folder "
            "for its answers."
        )
    import sys

    from transformers_llava.evaluation.inference.evaluation_run import evaluate
    from transformers_llava.evaluation.tasks import load_tasks, protocol_named

    tasks = load_tasks(args.tasks)
    records = evaluate(
        args.model,
        tasks,
        protocol_named(args.protocol),
        args.data_root,
        args.output_dir,
        limit=args.limit,
        batch_size=args.batch_size,
        revision=args.revision,
        device=args.device,
        dtype=args.dtype,
        seed=args.seed,
        progress=sys.stderr.isatty(),
    )
    for record in records:
        _print_record(record)
    if records:  # the first of several processes
        print(f"written: {args.output_dir / 'evaluation.json'}")


def _rescore(args: argparse.Namespace) -> None:
    from transformers_llava.artifacts.evaluation_files.evaluation_record import write_evaluation
    from transformers_llava.evaluation.rescoring import find_predictions, rescore
    from transformers_llava.evaluation.tasks import load_tasks

    paths = find_predictions(args.rescore)
    if args.tasks != "all":
        wanted = {task.name for task in load_tasks(args.tasks)}
        paths = tuple(path for path in paths if path.stem.split(".")[0] in wanted)
        if not paths:
            raise CommandError(f"'{args.rescore}' has no predictions of {args.tasks}. Without --tasks all are scored.")
    records = tuple(rescore(path, args.data_root, seed=args.seed)[1] for path in paths)
    for record in records:
        _print_record(record)
    if args.tasks == "all":  # a part of the tasks would take the results of the others out of the file
        print(f"written: {write_evaluation(args.rescore, records)}")


def _compare(args: argparse.Namespace) -> None:
    from transformers_llava.artifacts.evaluation_files.predictions import read_predictions
    from transformers_llava.evaluation.asking import read_questions
    from transformers_llava.evaluation.comparison import Side, differing_answers, explain
    from transformers_llava.evaluation.tasks import PROTOCOLS, load_task

    files = [read_predictions(path) for path in args.compare or args.explain]
    names = {file.header.task for file in files}
    if len(names) > 1:
        raise CommandError(f"the files are of {' and '.join(sorted(names))}. Name two files of one task.")
    task = load_task(names.pop())
    sides = []
    for file in files:
        task.protocol(file.header.protocol)  # raises for an unknown one
        protocol = next(name for name in PROTOCOLS if name == file.header.protocol)
        scored = task.protocol(protocol).scorer is not None and args.explain
        sides.append(Side(file, read_questions(task, protocol, args.data_root, annotated=bool(scored))))
    if args.compare:
        found = differing_answers(task, *sides)
        print(f"{task.name}: {len(found)} answers differ")
        for difference in found:
            print(f"  {difference.name}: {difference.first.text!r} -> {difference.second.text!r}")
        return
    explanation = explain(task, *sides)
    first, second, gap = float(explanation.first), float(explanation.second), float(explanation.gap)
    print(f"{task.name}: {first:.4f} -> {second:.4f} ({gap:+.4f})")
    for part in explanation.parts:
        print(f"  {part.cause:<13} {float(part.amount):+.4f}  {part.num_questions} questions: {part.meaning}")


def _answers(args: argparse.Namespace) -> None:
    from transformers_llava.evaluation.asking import read_questions
    from transformers_llava.evaluation.questions.annotations import wording_of
    from transformers_llava.evaluation.scorers import scorer_of
    from transformers_llava.evaluation.scoring.pairing import pair_answers, read_answers
    from transformers_llava.evaluation.tasks import load_tasks

    tasks = load_tasks(args.tasks)
    if len(tasks) != 1:
        raise CommandError("an answers file is of one task. Name it with --tasks, such as --tasks pope.")
    task, protocol = tasks[0], tasks[0].protocol("llava-1.5")
    if protocol.scorer is None:
        raise CommandError(f"{task.name} is not scored here, but by a {protocol.scored}: {protocol.note}.")
    questions = read_questions(task, "llava-1.5", args.data_root)
    file = read_answers(args.answers)
    paired = pair_answers(questions, file.answers, wording=wording_of(task.name))
    result = scorer_of(protocol.scorer)(questions, paired.texts)
    print(f"{task.name} (llava-1.5, {protocol.version}): {result.num_questions} questions")
    _print_result(result, (*file.notes, *paired.notes, *result.notes), args.seed)


def _own(args: argparse.Namespace) -> None:
    from transformers_llava.evaluation.questions.question_lines import read_own_questions
    from transformers_llava.evaluation.scorers import scorer_of
    from transformers_llava.evaluation.scoring.pairing import pair_answers, read_answers

    questions = read_own_questions(args.questions)
    file = read_answers(args.answers)
    paired = pair_answers(questions, file.answers)
    result = scorer_of(args.scorer)(questions, paired.texts)
    print(f"{args.questions.name} ({args.scorer}): {result.num_questions} questions")
    _print_result(result, (*file.notes, *paired.notes, *result.notes), args.seed)


def _print_result(result: Any, notes: tuple[str, ...], seed: int) -> None:
    for score in result.scores:
        low, high = score.interval(seed=seed) or (None, None)
        print(_line(score.name, score.value, score.unit, low, high))
    for note in notes:
        print(f"  note: {note}")


def _print_record(record: Any) -> None:
    partial = ", partial" if record.is_partial else ""
    print(f"{record.task} ({record.protocol}, {record.protocol_version}): {record.num_questions} questions{partial}")
    for score in record.scores:
        print(_line(score.name, score.value, score.unit, score.low, score.high))
    for note in record.notes:
        print(f"  note: {note}")


def _line(name: str, value: float | None, unit: str, low: float | None, high: float | None) -> str:
    digits = 4 if unit == "share" else 2
    sign = {"percent": " %", "points": " points", "share": ""}[unit]
    if value is None:
        return f"  {name}: not defined"
    interval = "" if low is None or high is None else f"  [{low:.{digits}f}, {high:.{digits}f}]"
    return f"  {name}: {value:.{digits}f}{sign}{interval}"
