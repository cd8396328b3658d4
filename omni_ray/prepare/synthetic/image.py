"""Synthetic pictures: one or two coloured shapes on a plain ground, with a caption that says all there is to see.

Shape, colour, size, place, texture and ground are drawn independently, so a caption can be told from the picture alone
and every word of it has something to stand for. Shapes are signed distances, filled with a soft edge of one pixel.
"""

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from omni_ray.prepare.synthetic.dice import Dice

Array = npt.NDArray[np.float32]

IMAGES = 1740
SIDE = 224  # pixels
QUALITY = 93  # of the JPEG

COLOURS = {
    "red": (208, 36, 42),
    "orange": (240, 138, 28),
    "yellow": (244, 214, 48),
    "green": (44, 156, 66),
    "blue": (38, 84, 204),
    "purple": (126, 52, 170),
    "pink": (242, 138, 180),
    "brown": (122, 74, 40),
    "black": (26, 26, 28),
}
GROUNDS = {"white": (246, 246, 244), "grey": (168, 170, 172), "beige": (232, 216, 184), "light blue": (186, 214, 236)}
SIZES = {"small": 22.0, "medium": 36.0, "large": 54.0}  # from the middle to the rim, in pixels
COLUMNS = {"left": 0.27, "": 0.5, "right": 0.73}
ROWS = {"top": 0.27, "": 0.5, "bottom": 0.73}


class Thing(NamedTuple):
    """One shape of a picture; x, y and radius in pixels."""

    size: str
    colour: str
    texture: str
    shape: str
    x: float
    y: float
    radius: float

    def __str__(self) -> str:
        return f"{self.size} {self.texture} {self.colour} {self.shape}"


def picture(seed: int, number: int) -> tuple[bytes, str, str]:
    """Picture `number`: JPEG bytes [SIDE, SIDE, RGB], caption, category (its shape, or `pair` for two shapes)."""
    dice = Dice(seed, 1, number)
    ground = dice.pick(list(GROUNDS))
    things, caption, category = _pair(dice, ground) if dice.chance(35) else _single(dice, ground)
    shade = np.linspace(dice.uniform(0.93, 1.0), dice.uniform(0.93, 1.0), SIDE, dtype=np.float32)
    canvas = np.array(GROUNDS[ground], np.float32) * shade[:, None, None]
    canvas = np.repeat(canvas, SIDE, axis=1)
    for thing in things:
        _paint(canvas, thing)
    canvas += dice.generator.standard_normal((SIDE, SIDE, 1), dtype=np.float32) * 2.5  # grain, as a camera has
    pixels = np.clip(canvas, 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=QUALITY)
    return stream.getvalue(), caption, category


def _single(dice: Dice, ground: str) -> tuple[list[Thing], str, str]:
    column, row = dice.pick(list(COLUMNS)), dice.pick(list(ROWS))
    thing = _thing(dice, COLUMNS[column], ROWS[row], list(SIZES))
    place = f"in the {row} {column} corner" if row and column else f"at the {row or column}" if row or column else ""
    place = place or "in the middle"
    caption = dice.pick(
        [
            f"A {thing} {place} on a {ground} background.",
            f"On a {ground} background there is a {thing} {place}.",
            f"A picture of a {thing} {place}, the background is {ground}.",
        ]
    )
    return [thing], caption, thing.shape


def _pair(dice: Dice, ground: str) -> tuple[list[Thing], str, str]:
    sizes = ["small", "medium"]  # so that two never touch
    if dice.chance(50):
        relation = "to the left of"
        first, second = _thing(dice, 0.27, 0.5, sizes), _thing(dice, 0.73, 0.5, sizes)
    else:
        relation = "above"
        first, second = _thing(dice, 0.5, 0.27, sizes), _thing(dice, 0.5, 0.73, sizes)
    if dice.chance(50):
        first, second = second, first
        relation = {"to the left of": "to the right of", "above": "below"}[relation]
    caption = f"A {first} {relation} a {second} on a {ground} background."
    return [first, second], caption, "pair"


def _thing(dice: Dice, across: float, down: float, sizes: list[str]) -> Thing:
    size = dice.pick(sizes)
    return Thing(
        size=size,
        colour=dice.pick(list(COLOURS)),
        texture=dice.pick(list(TEXTURES)),
        shape=dice.pick(list(SHAPES)),
        x=across * SIDE + dice.uniform(-5, 5),
        y=down * SIDE + dice.uniform(-5, 5),
        radius=SIZES[size] * dice.uniform(0.92, 1.08),
    )


def _paint(canvas: Array, thing: Thing) -> None:
    """Blend a thing into `canvas` [SIDE, SIDE, RGB] in place."""
    reach = int(thing.radius) + 3
    left, top = max(0, int(thing.x) - reach), max(0, int(thing.y) - reach)
    part = canvas[top : int(thing.y) + reach, left : int(thing.x) + reach]
    y, x = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]].astype(np.float32)
    x, y = x - np.float32(thing.x), y - np.float32(thing.y)
    distance = SHAPES[thing.shape](x, y, thing.radius)
    cover = np.clip(0.5 - distance, 0, 1)[..., None]
    colour = np.array(COLOURS[thing.colour], np.float32)
    light = colour + (255 - colour) * np.float32(0.62)
    inked = TEXTURES[thing.texture](x, y)[..., None]
    part += cover * (light + (colour - light) * inked - part)


# --- shapes: signed distance to the rim in pixels, negative inside ----------------------------------------------------


def _circle(x: Array, y: Array, radius: float) -> Array:
    return np.hypot(x, y) - np.float32(radius)


def _square(x: Array, y: Array, radius: float) -> Array:
    return np.maximum(np.abs(x), np.abs(y)) - np.float32(0.84 * radius)


def _diamond(x: Array, y: Array, radius: float) -> Array:
    return (np.abs(x) + np.abs(y) - np.float32(radius)) * np.float32(0.7071)


def _triangle(x: Array, y: Array, radius: float) -> Array:
    return np.maximum(np.abs(x) * np.float32(0.866) - y * np.float32(0.5), y) - np.float32(0.5 * radius)


def _ring(x: Array, y: Array, radius: float) -> Array:
    away: Array = np.abs(np.hypot(x, y) - np.float32(0.74 * radius))
    return away - np.float32(0.24 * radius)


def _cross(x: Array, y: Array, radius: float) -> Array:
    across, down = np.abs(x), np.abs(y)
    arm, reach = np.float32(0.3 * radius), np.float32(0.95 * radius)
    return np.minimum(np.maximum(across - reach, down - arm), np.maximum(across - arm, down - reach))


def _star(x: Array, y: Array, radius: float) -> Array:
    point = np.arctan2(x, -y) * np.float32(5 / (2 * np.pi))  # angle from the top, in points of five
    away = np.abs(point - np.round(point)) * np.float32(2)  # 0 on a point, 1 between two
    rim: Array = np.float32(radius) / (1 + away * np.float32(1.4))
    return np.hypot(x, y) - rim


def _moon(x: Array, y: Array, radius: float) -> Array:
    bite = _circle(x - np.float32(0.5 * radius), y, 0.72 * radius)
    return np.maximum(_circle(x, y, radius), -bite)


SHAPES: dict[str, Callable[[Array, Array, float], Array]] = {
    "circle": _circle,
    "square": _square,
    "diamond": _diamond,
    "triangle": _triangle,
    "ring": _ring,
    "cross": _cross,
    "star": _star,
    "moon": _moon,
}


# --- textures: 1 where the colour lies, 0 where its light tint does ---------------------------------------------------


def _bars(along: Array) -> Array:
    return (np.mod(along, 10) < 6).astype(np.float32)


TEXTURES: dict[str, Callable[[Array, Array], Array]] = {
    "plain": lambda x, y: np.ones_like(x),
    "striped": lambda x, y: _bars(y),
    "dotted": lambda x, y: (np.hypot(np.mod(x, 11) - 5.5, np.mod(y, 11) - 5.5) > 3).astype(np.float32),
    "checked": lambda x, y: np.abs(_bars(x) - _bars(y)),
}
