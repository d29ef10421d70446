"""Choose the contents of a scene: how many of which shape, in which color, in which quarters."""

import random
from dataclasses import dataclass


COLORS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "green": (40, 150, 60),
    "blue": (40, 80, 210),
    "yellow": (240, 210, 40),
    "purple": (140, 60, 180),
    "orange": (245, 130, 30),
}
WARM_COLORS = ("red", "yellow", "orange")
SHAPES = ("circle", "triangle", "cross", "ring")
CELLS = ("top left", "top right", "bottom left", "bottom right")


@dataclass(frozen=True)
class Scene:
    """
    One to four copies of one shape in one color, at most one in each quarter.

    Args:
        color (`str`): One of [`COLORS`].
        shape (`str`): One of [`SHAPES`].
        cells (`tuple[str, ...]`): The quarters that are filled, in the order of [`CELLS`].
        appearance_seed (`int`): The seed of everything that is mere appearance.
    """

    color: str
    shape: str
    cells: tuple[str, ...]
    appearance_seed: int

    @property
    def count(self) -> int:
        return len(self.cells)

    @property
    def is_held_out(self) -> bool:
        """
        Whether this composition of color, shape and count belongs to the test alone.

        Contract: a training image shows no held-out composition, a test image shows nothing else. The rule is a
        Latin square: 24 of the 96 compositions are held out, one count for every pair of color and shape. So every
        color, shape, count and pair of two of them occurs in training, and only the combination of all three is new.
        """
        return (list(COLORS).index(self.color) + SHAPES.index(self.shape) + self.count) % len(CELLS) == 0


def sample_scene(rng: random.Random, *, held_out: bool) -> Scene:
    """
    A random scene.

    Args:
        rng (`random.Random`): Where chance comes from.
        held_out (`bool`): True for a test scene (held-out compositions only), False for a training scene (none).
    """
    while True:
        count = rng.choice((1, 1, 2, 3, 4))  # single shapes more often: only of them one can ask where they are
        filled = set(rng.sample(CELLS, count))
        cells = tuple(cell for cell in CELLS if cell in filled)
        scene = Scene(rng.choice(list(COLORS)), rng.choice(SHAPES), cells, rng.getrandbits(32))
        if scene.is_held_out == held_out:
            return scene


__all__ = ["CELLS", "COLORS", "SHAPES", "Scene", "WARM_COLORS", "sample_scene"]
