"""The vocabulary of the synthetic texts: small tables of true things."""

from typing import NamedTuple


class Person(NamedTuple):
    name: str
    subject: str
    possessive: str


class Animal(NamedTuple):
    name: str
    group: str
    legs: int
    food: str
    home: str


class Element(NamedTuple):
    name: str
    symbol: str
    number: int


def _words(text: str) -> list[str]:
    return text.split()


def _pairs(text: str) -> dict[str, str]:
    """`France:Paris Peru:Lima` -> {"France": "Paris", "Peru": "Lima"}; `_` stands for a space."""
    return dict(pair.replace("_", " ").split(":") for pair in text.split())


PEOPLE = [
    *(Person(name, "she", "her") for name in _words("Mia Ada Lena Nora Sofia Aisha Yuki Clara Ines Priya Zoe Hanna")),
    *(Person(name, "he", "his") for name in _words("Tom Omar Ben Leo Kofi Ravi Hugo Jonas Mateo Emil Finn Chen")),
]

ANIMALS = [
    Animal(*row)
    for row in [
        ("robin", "bird", 2, "worms", "a nest in a tree"),
        ("eagle", "bird", 2, "fish", "a nest on a cliff"),
        ("duck", "bird", 2, "water plants", "the reeds by a pond"),
        ("owl", "bird", 2, "mice", "a hollow tree"),
        ("penguin", "bird", 2, "fish", "the icy coast"),
        ("horse", "mammal", 4, "grass", "a stable"),
        ("cow", "mammal", 4, "grass", "a meadow"),
        ("rabbit", "mammal", 4, "clover", "a burrow"),
        ("fox", "mammal", 4, "mice", "a den"),
        ("bear", "mammal", 4, "berries and fish", "a cave"),
        ("lion", "mammal", 4, "meat", "the savanna"),
        ("squirrel", "mammal", 4, "nuts", "a tree"),
        ("frog", "amphibian", 4, "flies", "a pond"),
        ("newt", "amphibian", 4, "small insects", "a ditch"),
        ("lizard", "reptile", 4, "insects", "a warm wall"),
        ("tortoise", "reptile", 4, "leaves", "dry grassland"),
        ("ant", "insect", 6, "seeds", "an anthill"),
        ("bee", "insect", 6, "nectar", "a hive"),
        ("beetle", "insect", 6, "leaves", "the forest floor"),
        ("butterfly", "insect", 6, "nectar", "a flower meadow"),
        ("spider", "arachnid", 8, "flies", "a web"),
        ("scorpion", "arachnid", 8, "insects", "the desert"),
    ]
]

CAPITALS = _pairs(
    "France:Paris Italy:Rome Spain:Madrid Portugal:Lisbon Germany:Berlin Austria:Vienna Poland:Warsaw "
    "Norway:Oslo Sweden:Stockholm Finland:Helsinki Denmark:Copenhagen Iceland:Reykjavik Ireland:Dublin "
    "Greece:Athens Hungary:Budapest Romania:Bucharest Bulgaria:Sofia Croatia:Zagreb Egypt:Cairo Kenya:Nairobi "
    "Ghana:Accra Senegal:Dakar Morocco:Rabat Ethiopia:Addis_Ababa Japan:Tokyo China:Beijing India:New_Delhi "
    "Thailand:Bangkok Vietnam:Hanoi Nepal:Kathmandu Mongolia:Ulaanbaatar Indonesia:Jakarta Turkey:Ankara "
    "Iran:Tehran Iraq:Baghdad Jordan:Amman Canada:Ottawa Mexico:Mexico_City Cuba:Havana Peru:Lima Chile:Santiago "
    "Argentina:Buenos_Aires Brazil:Brasília Colombia:Bogotá Uruguay:Montevideo Australia:Canberra"
)

ELEMENTS = [
    Element(name, symbol, number)
    for number, (name, symbol) in enumerate(
        _pairs(
            "hydrogen:H helium:He lithium:Li beryllium:Be boron:B carbon:C nitrogen:N oxygen:O fluorine:F neon:Ne "
            "sodium:Na magnesium:Mg aluminium:Al silicon:Si phosphorus:P sulfur:S chlorine:Cl argon:Ar potassium:K "
            "calcium:Ca scandium:Sc titanium:Ti vanadium:V chromium:Cr manganese:Mn iron:Fe cobalt:Co nickel:Ni "
            "copper:Cu zinc:Zn"
        ).items(),
        1,
    )
]

PLANETS = _words("Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune")
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words("January February March April May June July August September October November December")
ORDINALS = _words("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth")
POLYGONS = {3: "triangle", 4: "square", 5: "pentagon", 6: "hexagon", 7: "heptagon", 8: "octagon"}
UNITS = [  # one of the first holds so many of the second
    ("kilometre", "metres", 1000),
    ("metre", "centimetres", 100),
    ("centimetre", "millimetres", 10),
    ("kilogram", "grams", 1000),
    ("litre", "millilitres", 1000),
    ("hour", "minutes", 60),
    ("minute", "seconds", 60),
    ("day", "hours", 24),
    ("week", "days", 7),
    ("dozen", "pieces", 12),
]

THINGS = _words(
    "apples pears plums oranges lemons pencils books stickers marbles stamps coins shells buttons cards balloons "
    "cookies candles cups plates ribbons stones postcards tomatoes carrots seeds bricks bottles socks"
)
CONTAINERS = _words("boxes bags baskets jars drawers crates")
FINDS = [
    "red ball",
    "blue umbrella",
    "silver key",
    "old map",
    "green scarf",
    "wooden flute",
    "small drum",
    "yellow kite",
    "brass bell",
    "torn letter",
    "black glove",
    "paper boat",
    "glass bead",
    "tin whistle",
]
SPOTS = [
    "under a bench",
    "behind the shed",
    "next to the well",
    "on the stairs",
    "beside the gate",
    "under the bridge",
    "between two rocks",
    "in the tall grass",
    "near the fountain",
    "on a window sill",
    "inside a flower pot",
]
PLACES = ["park", "market", "library", "harbour", "school", "museum", "station", "garden", "bakery", "lake", "forest"]
WEATHER = ["sunny", "cloudy", "rainy", "windy", "foggy", "snowy"]
FEELINGS = ["happy", "curious", "tired", "proud", "surprised", "calm", "hungry", "cheerful"]
KIN = ["sister", "brother", "mother", "father", "uncle", "aunt", "cousin", "grandmother", "grandfather", "friend"]
TASKS = [
    "water the plants",
    "take out the bread",
    "call the dentist",
    "feed the cat",
    "stretch",
    "post the letter",
    "stir the soup",
    "charge the phone",
    "air the room",
    "pack the bag",
]
SMALL_NUMBERS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
TENS = _words("twenty thirty forty fifty sixty seventy eighty ninety")


def spoken(number: int) -> str:
    """A whole number below 100 in words: 42 -> `forty two`."""
    if number < 20:
        return SMALL_NUMBERS[number]
    tens = TENS[number // 10 - 2]
    return f"{tens} {SMALL_NUMBERS[number % 10]}" if number % 10 else tens


def article(noun: str) -> str:
    """`an owl`, `a fox`."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    irregular = {"butterfly": "butterflies", "fox": "foxes", "dozen": "dozen", "cross": "crosses"}
    return irregular.get(noun, f"{noun}s")
