"""Transcripts and captions that lists, and those who read them, could take for something else."""

import json
from collections.abc import Iterable
from pathlib import Path

from tests.prepare.media import world

# as found, and as the lists must have it: composed, on one line
TEXTS = {
    "one, two; three\tfour|five": "one, two; three four|five",
    '"quoted"': '"quoted"',
    'she said "no", \'never\' and ""': 'she said "no", \'never\' and ""',
    '",': '",',
    "two\nlines": "two lines",
    'three\r\n"quoted"\r\n, lines': 'three "quoted" , lines',
    "old Mac\rline, \u2028 line separator, \x85 next line": "old Mac line, line separator, next line",
    "C:\\new\\table": "C:\\new\\table",
    "\\": "\\",
    'ends with \\"': 'ends with \\"',
    "\\N \\n \\u0041": "\\N \\n \\u0041",
    "=1+1": "=1+1",
    "# no comment": "# no comment",
    "#": "#",
    "+1 -1 @sum(a)": "+1 -1 @sum(a)",
    "cafe\u0301": "café",
    "x\u0301 q\u0308 नि": "x\u0301 q\u0308 नि",
    "👩‍🔬 🇫🇷 👍🏽": "👩‍🔬 🇫🇷 👍🏽",
    "שלום, עולם": "שלום, עולם",
    "\u202bمرحبا\u202c \u200f!": "\u202bمرحبا\u202c \u200f!",
    "größe 尺寸 𝄞": "größe 尺寸 𝄞",
    "<b>&amp;</b> </script> %s {0} $HOME": "<b>&amp;</b> </script> %s {0} $HOME",
    "[1, null]": "[1, null]",
    '{"a": 1}': '{"a": 1}',
    **{word: word for word in ("NA", "N/A", "n/a", "null", "NULL", "None", "nan", "NaN", "<NA>", "True", "false")},
    **{word: word for word in ("007", "1e5", "0x1F", "1_000", "1,5", "-0", "inf", "2024-01-31", "2024-01-31T12:00Z")},
}
# where nothing else is in the list, readers that guess take the whole column for numbers, or for nothing at all
NUMBERS = {word: word for word in ("007", "1e5", "-0", "12", "1.50")}
MISSING = {word: word for word in ("NA", "null", "nan", "N/A")}


def entry(folder: Path, modality: str, texts: Iterable[str]) -> str:
    """A source of as many samples as there are texts; as categories, pictures have the same texts backwards."""
    make, suffix, field = (world.clip, "wav", "text") if modality == "audio" else (world.photo, "png", "caption")
    found = list(texts)
    records = [
        {"file": f"{n}.{suffix}", "said": text, "kind": kind}
        for n, (text, kind) in enumerate(zip(found, reversed(found), strict=True))
    ]
    table = "".join(json.dumps(record) + "\n" for record in records).encode()
    world.files(folder, {"odd.jsonl": table, **{f"{n}.{suffix}": make(500 + n) for n in range(len(found))}})
    more = f'[source.fields]\n{modality} = "{{file}}"\n{field} = "{{said}}"\n'
    more += "[source.rules]\nrequire_text = false" if modality == "audio" else 'category = "{kind}"'
    return world.entry("odd", modality, "odd.jsonl", "table", more)
