"""Choose the rows of a source by how much of it to use. Pure."""

import logging
import math
import random
import re
from collections.abc import Sequence
from typing import NamedTuple


logger = logging.getLogger(__name__)

_SAMPLING = re.compile(r"(first|end|random):(\d{1,12}(?:\.\d{1,12})?)(%?)")


def draw_rows(
    num_rows: int,
    *,
    name: str,
    seed: int = 0,
    num_examples: int | None = None,
    weight: float | None = None,
    sampling: str | None = None,
) -> list[int]:
    """
    Choose rows, in ascending order.

    A draw is without repetition and depends on name, seed and the number of rows; whole multiples repeat every row.
    Five rows with weight 2.4 are each taken twice, and two of them a third time.

    Args:
        num_rows (`int`):
            How many there are.
        name (`str`):
            Name of the source; two sources with one seed draw differently.
        seed (`int`, *optional*, defaults to 0):
            Seed of the draw.
        num_examples (`int`, *optional*), weight (`float`, *optional*), sampling (`str`, *optional*):
            How much: a count, a multiple, or LLaVA-NeXT's `all`, `first:N`, `end:N`, `random:N` with N a count or `k%`
            (rounded up, as there). Nothing means all.
    """
    kind, wanted = "random", num_rows
    if num_examples is not None:
        wanted = num_examples
    elif weight is not None:
        wanted = round(weight * num_rows)
    elif sampling is not None and sampling != "all":
        kind, wanted = _parse(name, sampling, num_rows)
    if wanted > num_rows and weight is None:
        logger.warning("source %s: %d examples are wanted, all %d usable ones are used.", name, wanted, num_rows)
        wanted = num_rows
    if kind == "first":
        return list(range(wanted))
    if kind == "end":
        return list(range(num_rows - wanted, num_rows))
    copies, rest = divmod(wanted, num_rows) if num_rows else (0, 0)
    drawn: Sequence[int] = random.Random(f"{name}/{seed}").sample(range(num_rows), rest)
    return sorted(list(range(num_rows)) * copies + list(drawn))


class TokenBudget(NamedTuple):
    """At most so many tokens of a source, and the seed of the draw."""

    num_tokens: int
    seed: int


def draw_within_budget(lengths: Sequence[int], budget: TokenBudget, *, name: str) -> list[int]:
    """
    Choose places, in ascending order, whose lengths add up to at most the budget.

    Examples are taken in an order that name and seed decide, up to the first that does not fit any more: lengths
    3, 5, 4 drawn as 5, 3, 4 within 9 give the 5 and the 3. Stopping there, rather than looking for a shorter one,
    keeps short examples as frequent as they are.
    """
    order = list(range(len(lengths)))
    random.Random(f"{name}/{budget.seed}").shuffle(order)
    total = 0
    taken: list[int] = []
    for place in order:
        total += lengths[place]
        if total > budget.num_tokens:
            return sorted(taken)
        taken.append(place)
    logger.warning("source %s: %d tokens are wanted, all %d are used.", name, budget.num_tokens, total)
    return sorted(taken)


def check_sampling(name: str, sampling: str) -> None:
    """Raises `ValueError` for a strategy that is none."""
    if sampling != "all":
        _parse(name, sampling, 0)


def _parse(name: str, sampling: str, num_rows: int) -> tuple[str, int]:
    match = _SAMPLING.fullmatch(sampling)
    if match is None or (not match[3] and "." in match[2]):
        raise ValueError(
            f"source {name!r} has sampling={sampling!r}. Use all, first:N, end:N or random:N; N may be a percentage."
        )
    return match[1], math.ceil(float(match[2]) * num_rows / 100) if match[3] else int(match[2])


__all__ = ["TokenBudget", "check_sampling", "draw_rows", "draw_within_budget"]
