"""Synthetic texts: facts, stories, dialogues, word problems and tool calls, written by small grammars.

What is stated is true (capitals, chemistry, calendars), every sum is right, every story can answer for itself: a small
model can learn them, and a person can see whether it did.
"""

from omni_ray.prepare.synthetic.dice import Dice
from omni_ray.prepare.synthetic.facts import ask
from omni_ray.prepare.synthetic.problems import problem, tool_call
from omni_ray.prepare.synthetic.words import (
    ANIMALS,
    DAYS,
    FEELINGS,
    FINDS,
    KIN,
    MONTHS,
    PEOPLE,
    PLACES,
    SPOTS,
    TASKS,
    WEATHER,
    article,
    spoken,
)

CORPUS_BYTES = 2_000_000


def corpus(seed: int, size: int = CORPUS_BYTES) -> bytes:
    """At least `size` bytes of different samples, one per line, the kinds mixed."""
    lines: dict[str, None] = {}
    total = item = 0
    while total < size:
        line = sample(Dice(seed, 0, item))
        item += 1
        if line not in lines:
            lines[line] = None
            total += len(line.encode()) + 1
    return "".join(f"{line}\n" for line in lines).encode()


def sample(dice: Dice) -> str:
    """One line of any kind."""
    kind = dice.below(10)
    if kind < 2:
        return " ".join(f"{asked} {answer}" for asked, answer in (ask(dice), ask(dice)))
    if kind < 5:
        return story(dice)
    if kind < 7:
        return " ".join(f"{speaker}: {words}" for speaker, words in dialogue(dice))
    if kind < 9:
        question, answer = problem(dice)
        return f"Question: {question} Answer: {answer}"
    return tool_call(dice)


def story(dice: Dice) -> str:
    """A short scene, and often a question about it with its answer."""
    who, kin, place, day = dice.pick(PEOPLE), dice.pick(KIN), dice.pick(PLACES), dice.pick(DAYS)
    find, spot, weather, feeling = dice.pick(FINDS), dice.pick(SPOTS), dice.pick(WEATHER), dice.pick(FEELINGS)
    animal = article(dice.pick(ANIMALS).name)
    she = who.subject.capitalize()
    opening = dice.pick(
        [
            f"On {day} {who.name} went to the {place} with {who.possessive} {kin}. It was {weather}.",
            f"It was a {weather} {day}, and {who.name} walked to the {place} with {who.possessive} {kin}.",
        ]
    )
    middle = dice.pick(
        [
            f"{she} found {article(find)} {spot}.",
            f"{she} looked around and saw {article(find)} {spot}.",
            f"There {who.subject} noticed {animal}, and {spot} lay {article(find)}.",
        ]
    )
    end = dice.pick(
        [
            f'"Look!" said {who.name}. {she} was {feeling}.',
            f"{she} gave it to {who.possessive} {kin} and felt {feeling}.",
            f"{she} took it home and was {feeling} all evening.",
        ]
    )
    asked, answer = dice.pick(
        [
            (f"Where did {who.name} go?", f"To the {place}."),
            (f"What did {who.name} find?", f"{article(find).capitalize()}."),
            (f"Where was the {find}?", f"{spot.capitalize()}."),
            (f"How was the weather on {day}?", f"It was {weather}."),
            (f"How did {who.name} feel?", f"{feeling.capitalize()}."),
        ]
    )
    return f"{opening} {middle} {end}" + (f" {asked} {answer}" if dice.chance(60) else "")


def document(dice: Dice, paragraphs: int) -> str:
    """A titled text of several paragraphs, a blank line between them."""
    title = f"Notes from the {dice.pick(PLACES)}, {dice.pick(MONTHS)} {dice.number(1, 28)}"
    parts = [title]
    for _ in range(paragraphs):
        if dice.chance(50):
            parts.append(" ".join(story(dice) for _ in range(dice.number(1, 3))))
        else:
            parts.append(" ".join(ask(dice)[1] for _ in range(dice.number(3, 8))))
    return "\n\n".join(parts) + "\n"


def dialogue(dice: Dice) -> list[tuple[str, str]]:
    """Turns of (speaker, words): questions put to an assistant, or two people making a plan."""
    return _assistance(dice) if dice.chance(70) else _appointment(dice)


def _assistance(dice: Dice) -> list[tuple[str, str]]:
    turns: list[tuple[str, str]] = []
    if dice.chance(40):
        who = dice.pick(PEOPLE).name
        turns += [("User", f"Hello, I am {who}."), ("Assistant", f"Hello {who}, how can I help you?")]
    for number in range(dice.number(1, 3)):
        question, answer = ask(dice)
        lead = dice.pick(["And one more: ", "Thanks. ", "Good to know. "]) if number else ""
        turns += [("User", lead + question), ("Assistant", answer)]
    if dice.chance(40):
        turns += [("User", "Thank you!"), ("Assistant", dice.pick(["You are welcome.", "With pleasure."]))]
    return turns


def _appointment(dice: Dice) -> list[tuple[str, str]]:
    first, second = (person.name for person in dice.several(PEOPLE, 2))
    place, other = dice.several(PLACES, 2)
    day, hour, task = dice.pick(DAYS), dice.number(1, 11), dice.pick(TASKS)
    turns = [
        (first, f"Shall we meet at the {place} on {day}?"),
        (second, f"The {place} is closed on {day}. What about the {other}?"),
        (first, f"Fine, at the {other}. When?"),
        (second, f"At {spoken(hour)}, I have to {task} first."),
        (first, f'Good, I write down: "{day} at {spoken(hour)}, at the {other}".'),
    ]
    return turns if dice.chance(60) else [turns[0], (second, f"Yes, at {spoken(hour)}."), (first, "See you there.")]
