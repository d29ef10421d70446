"""Write the prompts of both protocols: what a user's turn says, and the whole string under `vicuna_v1`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformers_llava.chat_templates import load_chat_template
from transformers_llava.evaluation.questions.annotations import YES_OR_NO
from transformers_llava.evaluation.questions.multiple_choice import LETTERS
from transformers_llava.evaluation.questions.question import Question


Language = Literal["en", "cn"]

IMAGE = "<image>"
IMAGE_WITH_START_AND_END = "<im_start><image><im_end>"  # of checkpoints with `mm_use_im_start_end`
LETTER_PROMPT: dict[Language, str] = {
    "en": "Answer with the option's letter from the given choices directly.",
    "cn": "请直接回答选项字母。",
}
SHORT_ANSWER_PROMPT = "\nAnswer the question using a single word or phrase."
UNANSWERABLE_PROMPT = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."
OPTION_PROMPT_LMMS: dict[Language, str] = {
    "en": "\nAnswer with the option's letter from the given choices directly.",
    "cn": "\n请直接使用所提供的选项字母作为答案回答。",
}
STEP_BY_STEP_PROMPT = (
    "First please perform reasoning, and think step by step to provide best answer to the following question: \n\n"
)


@dataclass(frozen=True)
class Round:
    """
    One asking of a multiple choice question with its options in some order.

    Args:
        number (`int`): From 0.
        text (`str`): Question and options, as the original notes them in its answers file.
        options (`tuple[str, ...]`): In the order of this round.
        letters (`tuple[str, ...]`): Letter that each of them has in the first round.
    """

    number: int
    text: str
    options: tuple[str, ...]
    letters: tuple[str, ...]


def user_text(text: str, *, has_image: bool, use_im_start_end: bool = False) -> str:
    """
    What the user's turn says in protocol `llava-1.5`: the image marker, a line break, the text as it is.

    White space of the text stays; hand the turn to a chat template as a string, for parts are stripped.

    Args:
        text (`str`): Question with the closing instruction.
        has_image (`bool`): Without an image there is no marker.
        use_im_start_end (`bool`, *optional*, defaults to `False`): `<im_start>` and `<im_end>` around the marker.
    """
    marker = IMAGE_WITH_START_AND_END if use_im_start_end else IMAGE
    return f"{marker}\n{text}" if has_image else text


def with_letter_prompt(text: str, *, language: Language = "en") -> str:
    """Ask for the letter on a line of its own: `--single-pred-prompt` of ScienceQA and MMBench."""
    return f"{text}\n{LETTER_PROMPT[language]}"


def mmbench_text(question: Question, options: Sequence[str] | None = None) -> str:
    """Hint, question and lettered options of MMBench, one a line."""
    text = question.text if question.hint is None else f"{question.hint}\n{question.text}"
    lettered = zip(LETTERS, question.options if options is None else options)
    return "\n".join([text, *(f"{letter}. {option}" for letter, option in lettered)])


def mmbench_rounds(question: Question, *, all_rounds: bool = False) -> Iterator[Round]:
    """
    The askings of a question of MMBench; with `all_rounds` (`--all-rounds`) one per option, each time rotated by one.

    Without options there is one asking, and none with `all_rounds`, as in the original.
    """
    letters = LETTERS[: len(question.options)]
    for number in range(len(question.options) if all_rounds else 1):
        options = question.options[number:] + question.options[:number]
        yield Round(number, mmbench_text(question, options), options, letters[number:] + letters[:number])


def render_prompt(turn: str, *, template: str = "vicuna_v1") -> str:
    """
    The whole string that the tokenizer gets, without `<s>`, which the tokenizer adds in the original.

    Args:
        turn (`str`): What the user's turn says, as from `user_text`.
        template (`str`, *optional*, defaults to `"vicuna_v1"`): Of every benchmark script of LLaVA-1.5.
    """
    from transformers.utils.chat_template_utils import render_jinja_template

    messages = [{"role": "user", "content": turn}]
    rendered: Any = render_jinja_template(
        [messages], chat_template=load_chat_template(template), add_generation_prompt=True, bos_token=""
    )
    return rendered[0][0]


def lmms_text(task: str, question: Question, *, with_ocr: bool = False) -> str:
    """
    What lmms-eval's task asks, with the `default` arguments of its task file.

    Args:
        task (`str`): Name of a task of ours.
        question ([`Question`]): As `questions.lmms_documents` reads it.
        with_ocr (`bool`, *optional*, defaults to `False`): `ocr: true` of TextVQA, which the task file has off.

    Raises:
        ValueError: There is no such task.
    """
    if task == "textvqa":
        tokens = f"\nReference OCR token: {question.hint or ''}" if with_ocr else ""
        return f"{question.text.capitalize()}{tokens}{SHORT_ANSWER_PROMPT}"
    if task not in _LMMS:
        raise ValueError(f"there is no task {task!r} with a prompt of lmms-eval. There are: {', '.join(_LMMS)}.")
    return _LMMS[task](question)


def _mme(question: Question) -> str:
    return question.text.strip().replace(f" {YES_OR_NO}", "") + SHORT_ANSWER_PROMPT


def _scienceqa(question: Question) -> str:
    context = f"Context: {question.hint}\n" if question.hint else ""
    return f"{context}{question.text}\n{_lettered(question.options)}{OPTION_PROMPT_LMMS['en']}"


def _mmbench(language: Language) -> Callable[[Question], str]:
    def text(question: Question) -> str:
        lettered = [(letter, option) for letter, option in zip(LETTERS, question.options) if option]
        options = "".join(f"{letter}. {option}\n" for letter, option in lettered if option != "nan")
        asked = f"{question.text} " + f"There are several options:\n{options}".rstrip("\n")
        if language == "cn" or question.hint != "nan":  # the Chinese task prints the "nan" of an empty hint
            asked = f"{question.hint} {asked}"
        return f"{asked}\n{OPTION_PROMPT_LMMS[language]}"

    return text


def _lettered(options: Sequence[str]) -> str:
    return "\n".join(f"{chr(ord('A') + place)}. {option}" for place, option in enumerate(options))


_LMMS: dict[str, Callable[[Question], str]] = {
    "vqav2": lambda question: question.text + SHORT_ANSWER_PROMPT,
    "gqa": lambda question: question.text + SHORT_ANSWER_PROMPT,
    "vizwiz": lambda question: question.text.capitalize() + UNANSWERABLE_PROMPT + SHORT_ANSWER_PROMPT,
    "scienceqa": _scienceqa,
    "textvqa": lambda question: question.text.capitalize() + SHORT_ANSWER_PROMPT,
    "pope": lambda question: question.text.strip() + SHORT_ANSWER_PROMPT,
    "mme": _mme,
    "mmbench": _mmbench("en"),
    "mmbench_cn": _mmbench("cn"),
    "seed_bench": lambda question: f"{question.text}\n{_lettered(question.options)}{OPTION_PROMPT_LMMS['en']}",
    "llava_bench": lambda question: question.text,
    "mmvet": lambda question: STEP_BY_STEP_PROMPT + question.text,
}


__all__ = [
    "Language",
    "Round",
    "lmms_text",
    "mmbench_rounds",
    "mmbench_text",
    "render_prompt",
    "user_text",
    "with_letter_prompt",
]
