"""Draw a scene: varied backgrounds, sizes, positions, shades and scribbles."""

import math
import random

from PIL import Image, ImageDraw

from transformers_llava.demo.data.scene_compositions import CELLS, COLORS, Scene


IMAGE_SIZE = 96


def draw_scene(scene: Scene) -> Image.Image:
    """
    Draws `scene` as an RGB image of `IMAGE_SIZE` pixels. The same scene always gives the same pixels.

    Size, place within the quarter, shade, rotation and the background vary with the scene's `appearance_seed` and
    say nothing about the objects.
    """
    rng = random.Random(scene.appearance_seed)
    image = _draw_background(rng)
    canvas = ImageDraw.Draw(image)
    _draw_scribbles(canvas, rng)
    for cell in scene.cells:
        _draw_shape(canvas, scene, cell, rng)
    return image


def _draw_background(rng: random.Random) -> Image.Image:
    """A plain, graded, striped or checkered ground in greys and pale tints, never in the color of an object."""
    first, second = _pale_shade(rng), _pale_shade(rng)
    kind = rng.choice(("plain", "graded", "striped", "checkered"))
    image = Image.new("RGB", (IMAGE_SIZE, IMAGE_SIZE), first)
    if kind == "graded":
        ramp = Image.linear_gradient("L").resize((IMAGE_SIZE, IMAGE_SIZE))
        image = Image.composite(image, Image.new("RGB", image.size, second), ramp.rotate(90 * rng.randrange(4)))
    if kind in ("striped", "checkered"):
        canvas = ImageDraw.Draw(image)
        width = rng.randint(6, 16)
        for index, start in enumerate(range(0, IMAGE_SIZE, width)):
            if kind == "striped" and index % 2:
                canvas.rectangle((start, 0, start + width - 1, IMAGE_SIZE), fill=second)
            if kind == "checkered":
                for top in range((index % 2) * width, IMAGE_SIZE, 2 * width):
                    canvas.rectangle((start, top, start + width - 1, top + width - 1), fill=second)
    return image


def _pale_shade(rng: random.Random) -> tuple[int, int, int]:
    grey = rng.randint(150, 235)
    red, green, blue = (min(255, max(0, grey + rng.randint(-12, 12))) for _ in range(3))
    return red, green, blue


def _draw_scribbles(canvas: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """Thin dark lines and dots: something to look past."""
    for _ in range(rng.randint(0, 4)):
        x, y = rng.randrange(IMAGE_SIZE), rng.randrange(IMAGE_SIZE)
        shade = (rng.randint(60, 130),) * 3
        if rng.random() < 0.5:
            canvas.line((x, y, x + rng.randint(-20, 20), y + rng.randint(-20, 20)), fill=shade, width=1)
        else:
            canvas.ellipse((x, y, x + 3, y + 3), fill=shade)


def _draw_shape(canvas: ImageDraw.ImageDraw, scene: Scene, cell: str, rng: random.Random) -> None:
    half = IMAGE_SIZE // 2
    row, column = divmod(CELLS.index(cell), 2)
    radius = rng.uniform(16.5, 22)
    margin = half / 2 - radius
    center_x = half * (column + 0.5) + rng.uniform(-margin, margin)
    center_y = half * (row + 0.5) + rng.uniform(-margin, margin)
    red, green, blue = (min(255, max(0, part + rng.randint(-18, 18))) for part in COLORS[scene.color])
    turn = math.radians(rng.uniform(-10, 10))
    box = (center_x - radius, center_y - radius, center_x + radius, center_y + radius)
    if scene.shape == "circle":
        canvas.ellipse(box, fill=(red, green, blue))
    elif scene.shape == "ring":
        canvas.ellipse(box, outline=(red, green, blue), width=round(0.42 * radius))
    else:
        points = [
            (
                center_x + radius * distance * math.sin(angle + turn),
                center_y - radius * distance * math.cos(angle + turn),
            )
            for distance, angle in _OUTLINES[scene.shape]
        ]
        canvas.polygon(points, fill=(red, green, blue))


def _cross_outline() -> list[tuple[float, float]]:
    """The twelve corners of a cross: two at each end of an arm and one in each bend, starting at the top."""
    arm = 0.32
    corners = []
    for quarter in range(4):
        ahead = quarter * math.pi / 2
        spread = math.atan(arm)
        corners += [(math.hypot(1, arm), ahead - spread), (math.hypot(1, arm), ahead + spread)]
        corners += [(math.hypot(arm, arm), ahead + math.pi / 4)]
    return corners


# Corners as (distance from the centre in radii, angle from the top).
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "triangle": [(1.0, corner * 2 * math.pi / 3) for corner in range(3)],
    "cross": _cross_outline(),
}


__all__ = ["IMAGE_SIZE", "draw_scene"]
