"""Plan equal packs of one optimizer step, one per rank and micro-step. Pure: no tensor, file or chance."""

import bisect
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any


_GOOD_ENOUGH = 1.003  # heaviest pack / mean pack at which exchanging stops: no rank waits for a third of a percent


def plan_step(
    lengths: Sequence[int], has_image: Sequence[bool], num_packs: int, *, image_cost: int = 0
) -> list[list[int]]:
    """
    Deal the examples of one optimizer step into packs of near-equal cost.

    Contract: every index of `lengths` occurs exactly once; no pack is empty; as many packs as possible begin with an
    example that has an image; heavier packs come first. The plan depends on the arguments alone.

    The most expensive image examples open the packs (then the most expensive texts, if images run out); the rest goes,
    most expensive first, to the pack that is lightest so far (longest processing time first); then the heaviest pack
    exchanges examples with lighter ones for as long as that makes it lighter.

    Five numbers: lengths 5, 4, 3, 2, 1 with images at 2 and 4, in two packs: 2 (cost 3) and 4 (cost 1) open them; 0
    joins the 1, 1 the 3, 3 the 6: packs [4, 0, 3] of 8 and [2, 1] of 7, and no exchange makes the 8 smaller.

    Args:
        lengths (`Sequence[int]`):
            Tokens per example.
        has_image (`Sequence[bool]`):
            Whether it has an image.
        num_packs (`int`):
            World size times accumulation steps.
        image_cost (`int`, *optional*, defaults to 0):
            What encoding the images of an example costs, in tokens of the language model.

    Returns:
        `list[list[int]]`: `num_packs` lists of indices.
    """
    if len(lengths) != len(has_image):
        raise ValueError(
            f"{len(lengths)} lengths but {len(has_image)} image flags: one of each per example is needed."
        )
    if not 1 <= num_packs <= len(lengths):
        raise ValueError(
            f"{len(lengths)} examples cannot fill {num_packs} packs: a rank would have nothing to do. Use a global "
            "batch of at least world size x accumulation steps."
        )
    costs = [length + (image_cost if with_image else 0) for length, with_image in zip(lengths, has_image, strict=True)]
    by_cost = sorted(range(len(costs)), key=lambda index: (-costs[index], index))
    openers = sorted(by_cost, key=lambda index: not has_image[index])[:num_packs]  # stable: images first, by cost
    packs = [[index] for index in openers]
    heap = [(costs[index], number) for number, index in enumerate(openers)]
    heapq.heapify(heap)
    is_opener = set(openers)
    for index in by_cost:
        if index not in is_opener:
            cost, number = heap[0]
            packs[number].append(index)
            heapq.heapreplace(heap, (cost + costs[index], number))
    loads = [0] * num_packs
    for cost, number in heap:
        loads[number] = cost
    _exchange(packs, loads, costs, has_image)
    for pack in packs:
        pack.sort(key=lambda index: (-costs[index], index))
        opener = next((place for place, index in enumerate(pack) if has_image[index]), 0)
        pack.insert(0, pack.pop(opener))
    return [packs[number] for number in sorted(range(num_packs), key=lambda number: (-loads[number], number))]


def _exchange(packs: list[list[int]], loads: list[int], costs: list[int], has_image: Sequence[bool]) -> None:
    """
    Let the heaviest pack swap one example for a cheaper one of the same kind, until no swap helps.

    A swap of difference d between loads a > b makes them a - d and b + d: it helps for 0 < d < a - b, most at half of
    that. Same kind (image or text), so that a pack never loses the image that opens it.
    """
    tolerance = sum(loads) / len(loads) * _GOOD_ENOUGH
    for _ in range(8 * len(packs)):
        heaviest = max(range(len(packs)), key=loads.__getitem__)
        if loads[heaviest] <= tolerance:
            return
        for other in sorted(range(len(packs)), key=loads.__getitem__):
            gap = loads[heaviest] - loads[other]
            swap = _best_swap(packs[heaviest], packs[other], gap, costs, has_image)
            if swap is not None:
                mine, theirs = swap
                difference = costs[packs[heaviest][mine]] - costs[packs[other][theirs]]
                packs[heaviest][mine], packs[other][theirs] = packs[other][theirs], packs[heaviest][mine]
                loads[heaviest] -= difference
                loads[other] += difference
                break
        else:
            return


def _best_swap(
    heavy: list[int], light: list[int], gap: int, costs: list[int], has_image: Sequence[bool]
) -> tuple[int, int] | None:
    """Places of the two examples whose exchange brings the packs closest together, if any does."""
    best, best_distance = None, gap  # |2d - gap| is what remains between the packs
    for kind in (True, False):
        theirs = sorted((costs[index], place) for place, index in enumerate(light) if bool(has_image[index]) == kind)
        for place, index in enumerate(heavy):
            if bool(has_image[index]) != kind:
                continue
            ideal = bisect.bisect_left(theirs, (costs[index] - gap / 2, 0))
            for cost, other_place in theirs[max(0, ideal - 1) : ideal + 1]:
                distance = abs(2 * (costs[index] - cost) - gap)
                if distance < best_distance:
                    best, best_distance = (place, other_place), distance
    return best


def deal_packs(packs: Sequence[list[int]], world_size: int) -> list[list[list[int]]]:
    """
    Packs, heaviest first, to ranks: rank r gets `[pack of micro-step 0, pack of micro-step 1, ...]`.

    The ranks of one micro-step wait for each other, so they get neighbours in cost: packs 0..3 on two ranks make
    micro-step 0 of packs 0 and 1, and micro-step 1 of packs 2 and 3.
    """
    assert len(packs) % world_size == 0, "as many packs on every rank"
    return [list(packs[rank::world_size]) for rank in range(world_size)]


def plan_rows(lengths: Sequence[int], num_batches: int) -> list[list[int]]:
    """
    Deal the examples of one optimizer step into padded batches of equal count and similar lengths.

    Contract: every index once; counts differ by at most one; the longest first. Examples of similar length share a
    batch, so that little of it is padding: lengths 5, 1, 4, 2 in two batches are [0, 2] and [3, 1], padded to 5 and 2.
    """
    if not 1 <= num_batches <= len(lengths):
        raise ValueError(f"{len(lengths)} examples cannot fill {num_batches} batches. Use a larger global batch.")
    by_length = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    size, larger = divmod(len(lengths), num_batches)
    starts = [number * size + min(number, larger) for number in range(num_batches + 1)]
    return [by_length[start:end] for start, end in pairwise(starts)]


def partition_step(
    lengths: Sequence[int],
    has_image: Sequence[bool],
    *,
    world_size: int,
    accumulation_steps: int,
    image_cost: int = 0,
    padded: bool = False,
) -> list[list[list[int]]]:
    """
    One optimizer step, dealt out: `[rank][micro-step]` -> places in `lengths`.

    `plan_step` (for rows, `plan_rows`) and `deal_packs`, also for the last step of an epoch, which may have fewer
    examples than packs: then the rest of the packs are empty, and the collators make each a black image without
    labels.
    """
    num_packs = world_size * accumulation_steps
    num_filled = min(num_packs, len(lengths))
    if padded:
        packs = plan_rows(lengths, num_filled)
    else:
        packs = plan_step(lengths, has_image, num_filled, image_cost=image_cost)
    return deal_packs(packs + [[]] * (num_packs - len(packs)), world_size)


@dataclass(frozen=True)
class PackingReport:
    """What the packs of some steps look like."""

    num_packs: int
    num_examples: int
    num_tokens: int
    mean_tokens: float  # per pack
    min_tokens: int
    max_tokens: int
    mean_balance: float  # heaviest pack of a step / mean pack of the step, in cost; 1.0 is perfect
    worst_balance: float
    padding_avoided: float  # share of a batch that would be padding, were the examples of each pack padded instead
    num_packs_without_image: int  # each gets a black image without labels
    longest_example: int
    max_length: int | None
    num_over_long: int  # examples longer than max_length

    @classmethod
    def of_steps(
        cls,
        steps: Iterable[Sequence[Sequence[int]]],
        lengths: Sequence[int],
        has_image: Sequence[bool],
        *,
        image_cost: int = 0,
        max_length: int | None = None,
    ) -> "PackingReport":
        """
        Tabulate planned steps.

        Args:
            steps (`Iterable`):
                Per step its packs, with indices into `lengths`.
            lengths, has_image, image_cost: what `plan_step` was given.
            max_length (`int`, *optional*):
                Above this an example counts as over-long.
        """
        tokens: list[int] = []
        balances: list[float] = []
        num_examples, padded, without_image, longest, over_long = 0, 0, 0, 0, 0
        for packs in steps:
            costs = []
            for pack in packs:
                if not pack:  # of a last step with fewer examples than packs
                    continue
                pack_lengths = [lengths[index] for index in pack]
                tokens.append(sum(pack_lengths))
                costs.append(tokens[-1] + image_cost * sum(has_image[index] for index in pack))
                num_examples += len(pack)
                padded += max(pack_lengths) * len(pack)
                longest = max(longest, *pack_lengths)
                without_image += not any(has_image[index] for index in pack)
                over_long += sum(max_length is not None and length > max_length for length in pack_lengths)
            balances.append(max(costs) * len(packs) / sum(costs))
        if not tokens:
            raise ValueError("there is no step to report on: the data set is smaller than one global batch.")
        return cls(
            num_packs=len(tokens),
            num_examples=num_examples,
            num_tokens=sum(tokens),
            mean_tokens=sum(tokens) / len(tokens),
            min_tokens=min(tokens),
            max_tokens=max(tokens),
            mean_balance=sum(balances) / len(balances),
            worst_balance=max(balances),
            padding_avoided=1 - sum(tokens) / padded,
            num_packs_without_image=without_image,
            longest_example=longest,
            max_length=max_length,
            num_over_long=over_long,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


__all__ = ["PackingReport", "deal_packs", "partition_step", "plan_rows", "plan_step"]
