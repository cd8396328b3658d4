"""Questions about the world with true answers: capitals, chemistry, animals, calendars, numbers."""

from collections.abc import Callable

from omni_ray.prepare.synthetic.dice import Dice
from omni_ray.prepare.synthetic.words import (
    ANIMALS,
    CAPITALS,
    DAYS,
    ELEMENTS,
    MONTHS,
    ORDINALS,
    PLANETS,
    POLYGONS,
    UNITS,
    article,
    plural,
    spoken,
)

Question = tuple[str, str]  # a question and its right answer, both whole sentences


def _ask_capital(dice: Dice) -> Question:
    country = dice.pick(list(CAPITALS))
    if dice.chance(50):
        return f"What is the capital of {country}?", f"The capital of {country} is {CAPITALS[country]}."
    return f"Which country has the capital {CAPITALS[country]}?", f"{CAPITALS[country]} is the capital of {country}."


def _ask_element(dice: Dice) -> Question:
    element = dice.pick(ELEMENTS)
    if dice.chance(50):
        return f"What is the symbol of {element.name}?", f"The symbol of {element.name} is {element.symbol}."
    protons = "one proton" if element.number == 1 else f"{element.number} protons"
    return f"How many protons does an atom of {element.name} have?", f"An atom of {element.name} has {protons}."


def _ask_planet(dice: Dice) -> Question:
    place = dice.below(len(PLANETS))
    return (
        f"Which planet is the {ORDINALS[place]} from the sun?",
        f"{PLANETS[place]} is the {ORDINALS[place]} planet from the sun.",
    )


def _ask_animal(dice: Dice) -> Question:
    animal = dice.pick(ANIMALS)
    one, about = article(animal.name), dice.below(4)
    if about == 0:
        return f"What does {one} eat?", f"{one.capitalize()} eats {animal.food}."
    if about == 1:
        return f"Where does {one} live?", f"{one.capitalize()} lives in {animal.home}."
    if about == 2:
        return f"What kind of animal is {one}?", f"{one.capitalize()} is {article(animal.group)}."
    count = dice.number(2, 9)
    legs = count * animal.legs
    return (
        f"How many legs do {spoken(count)} {plural(animal.name)} have?",
        f"One has {animal.legs} legs, so {count} * {animal.legs} = {legs} legs.",
    )


def _ask_calendar(dice: Dice) -> Question:
    if dice.chance(50):
        start, later = dice.below(7), dice.number(1, 20)
        days = "one day" if later == 1 else f"{later} days"
        return (
            f"Which day comes {days} after {DAYS[start]}?",
            f"It is {DAYS[(start + later) % 7]}.",
        )
    month = dice.below(12)
    return f"Which month is the {ORDINALS[month]} of the year?", f"The {ORDINALS[month]} month is {MONTHS[month]}."


def _ask_number(dice: Dice) -> Question:
    number, about = dice.number(2, 998), dice.below(4)
    if about == 0:
        return f"Is {number} even or odd?", f"{number} is {'odd' if number % 2 else 'even'}."
    if about == 1:
        return f"Which number follows {number}?", f"{number + 1} follows {number}."
    if about == 2:
        other = number + dice.pick([-1, 1]) * dice.number(1, 60)
        return f"Which is larger, {number} or {other}?", f"{max(number, other)} is larger than {min(number, other)}."
    small = number % 100
    return f"How is {small} written in words?", f"{small} is written {spoken(small)}."


def _ask_unit(dice: Dice) -> Question:
    (large, small, factor), count = dice.pick(UNITS), dice.number(2, 40)
    return f"How many {small} are {count} {plural(large)}?", f"{count} * {factor} = {count * factor} {small}."


def _ask_shape(dice: Dice) -> Question:
    sides, side = dice.number(3, 8), dice.number(2, 30)
    return (
        f"A {POLYGONS[sides]} has {sides} equal sides of {side} cm. How long is the way around it?",
        f"{sides} * {side} = {sides * side} cm.",
    )


_ASKS: list[Callable[[Dice], Question]] = [
    _ask_capital,
    _ask_element,
    _ask_planet,
    _ask_animal,
    _ask_calendar,
    _ask_number,
    _ask_unit,
    _ask_shape,
]


def ask(dice: Dice) -> Question:
    """A question about the world, and its answer."""
    return dice.pick(_ASKS)(dice)
