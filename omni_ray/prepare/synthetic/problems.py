"""Word problems in whole numbers with worked solutions, and requests that a tool serves."""

import json
from collections.abc import Callable

from omni_ray.prepare.synthetic.dice import Dice
from omni_ray.prepare.synthetic.facts import Question
from omni_ray.prepare.synthetic.words import (
    CAPITALS,
    CONTAINERS,
    DAYS,
    KIN,
    PEOPLE,
    PLACES,
    TASKS,
    THINGS,
    UNITS,
    WEATHER,
    plural,
)


def problem(dice: Dice) -> Question:
    """A word problem in whole numbers, and its solution step by step; every equation has one operation."""
    return dice.pick(_PROBLEMS)(dice)


def _gain_and_loss(dice: Dice) -> Question:
    who, thing, kin = dice.pick(PEOPLE), dice.pick(THINGS), dice.pick(KIN)
    has, gets = dice.number(3, 80), dice.number(2, 60)
    gives = dice.number(1, has + gets - 1)
    left = has + gets - gives
    return (
        f"{who.name} has {has} {thing} and gets {gets} more. "
        f"Then {who.subject} gives {gives} to {who.possessive} {kin}. How many {thing} are left?",
        f"First {has} + {gets} = {has + gets}. Then {has + gets} - {gives} = {left}. The answer is {left}.",
    )


def _boxes(dice: Dice) -> Question:
    who, thing, box = dice.pick(PEOPLE), dice.pick(THINGS), dice.pick(CONTAINERS)
    count, each = dice.number(2, 15), dice.number(2, 24)
    if dice.chance(50):
        return (
            f"{who.name} fills {count} {box} with {each} {thing} each. How many {thing} is that?",
            f"{count} * {each} = {count * each}. The answer is {count * each}.",
        )
    return (
        f"{who.name} puts {count * each} {thing} into {count} {box}, the same number into each. How many are in one?",
        f"{count * each} / {count} = {each}. The answer is {each}.",
    )


def _shopping(dice: Dice) -> Question:
    who, thing = dice.pick(PEOPLE), dice.pick(THINGS)
    count, price = dice.number(2, 12), dice.number(1, 15)
    cost = count * price
    paid = cost + dice.number(1, 40)
    return (
        f"{who.name} buys {count} {thing} at {price} euros each and pays with {paid} euros. "
        f"How much does {who.subject} get back?",
        f"The {thing} cost {count} * {price} = {cost} euros. {paid} - {cost} = {paid - cost}. "
        f"The answer is {paid - cost} euros.",
    )


def _journey(dice: Dice) -> Question:
    who, speed, hours = dice.pick(PEOPLE), dice.number(3, 90), dice.number(2, 9)
    way = speed * hours
    if dice.chance(50):
        return (
            f"{who.name} travels {hours} hours at {speed} km per hour. How far is that?",
            f"{speed} * {hours} = {way}. The answer is {way} km.",
        )
    return (
        f"{who.name} travels {way} km at {speed} km per hour. How many hours does it take?",
        f"{way} / {speed} = {hours}. The answer is {hours} hours.",
    )


def _ages(dice: Dice) -> Question:
    who, kin = dice.pick(PEOPLE), dice.pick(["sister", "brother", "cousin", "friend"])
    age, older, later = dice.number(4, 30), dice.number(2, 40), dice.number(2, 15)
    return (
        f"{who.name} is {age} years old, and {who.possessive} {kin} is {older} years older. "
        f"How old will the {kin} be in {later} years?",
        f"Now the {kin} is {age} + {older} = {age + older}. In {later} years {age + older} + {later} = "
        f"{age + older + later}. The answer is {age + older + later}.",
    )


def _garden(dice: Dice) -> Question:
    who, length, width = dice.pick(PEOPLE), dice.number(3, 40), dice.number(2, 30)
    area = length * width
    return (
        f"The garden of {who.name} is {length} m long and {width} m wide. How large is it?",
        f"{length} * {width} = {area}. The answer is {area} square metres.",
    )


def _comparison(dice: Dice) -> Question:
    (first, second), thing, half = dice.several(PEOPLE, 2), dice.pick(THINGS), dice.number(2, 50)
    return (
        f"{first.name} sells {2 * half} {thing} and {second.name} half as many. How many do they sell together?",
        f"{second.name} sells {2 * half} / 2 = {half}. Together {2 * half} + {half} = {3 * half}. "
        f"The answer is {3 * half}.",
    )


_PROBLEMS: list[Callable[[Dice], Question]] = [
    _gain_and_loss,
    _boxes,
    _shopping,
    _journey,
    _ages,
    _garden,
    _comparison,
]


def tool_call(dice: Dice) -> str:
    """A request, the call that serves it as a name and JSON arguments, its result, and the answer."""
    asked, tool, arguments, result, answer = dice.pick(_TOOLS)(dice)
    call, back = (json.dumps(value, ensure_ascii=False) for value in (arguments, result))
    return f"User: {asked} Call: {tool} {call} Result: {back} Assistant: {answer}"


Use = tuple[str, str, dict[str, object], dict[str, object], str]


def _weather(dice: Dice) -> Use:
    city, day = dice.pick(list(CAPITALS.values())), dice.pick(DAYS)
    sky, degrees = dice.pick(WEATHER[:5]), dice.number(2, 33)
    asked = f"What will the weather be in {city} on {day}?"
    answer = f"On {day} it will be {sky} in {city}, at {degrees} degrees."
    return asked, "get_weather", {"city": city, "day": day}, {"sky": sky, "celsius": degrees}, answer


def _calculator(dice: Dice) -> Use:
    first, second = dice.number(2, 99), dice.number(2, 99)
    sign, word, value = dice.pick(
        [("+", "plus", first + second), ("-", "minus", first - second), ("*", "times", first * second)]
    )
    expression = f"{first} {sign} {second}"
    answer = f"{expression} = {value}."
    return f"What is {first} {word} {second}?", "calculator", {"expression": expression}, {"value": value}, answer


def _timer(dice: Dice) -> Use:
    minutes, task = dice.number(2, 90), dice.pick(TASKS)
    asked = f"Remind me in {minutes} minutes to {task}."
    answer = f"I will remind you in {minutes} minutes to {task}."
    return asked, "set_timer", {"minutes": minutes, "label": task}, {"ok": True}, answer


def _convert(dice: Dice) -> Use:
    (large, small, factor), count = dice.pick(UNITS), dice.number(2, 99)
    arguments: dict[str, object] = {"value": count, "from": large, "to": small}
    answer = f"{count} * {factor} = {count * factor} {small}."
    return f"Convert {count} {plural(large)} to {small}.", "convert", arguments, {"value": count * factor}, answer


def _message(dice: Dice) -> Use:
    who, day, place = dice.pick(PEOPLE).name, dice.pick(DAYS), dice.pick(PLACES)
    words = f"See you on {day} at the {place}"
    arguments: dict[str, object] = {"to": who, "text": words}
    return f"Tell {who}: {words}.", "send_message", arguments, {"sent": True}, f"I have told {who}."


_TOOLS: list[Callable[[Dice], Use]] = [_weather, _calculator, _timer, _convert, _message]
