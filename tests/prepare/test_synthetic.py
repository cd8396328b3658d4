import csv
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from omni_ray.catalog import CATEGORIES, Modality
from omni_ray.prepare.synthetic import audio, has_raw, image, synthetic_catalog, text, write_raw, write_raw_text
from omni_ray.prepare.synthetic.datasets import make_audio, make_images, make_text
from omni_ray.prepare.synthetic.dice import Dice
from omni_ray.prepare.synthetic.words import spoken
from omni_ray.storage import TEMP_PREFIX, LocalStorage

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/make_synthetic_datasets.py"
RAW = ["calls-0.txt", "dialogues-0.csv", "documents-0.tar.gz", "problems-0.jsonl"]


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the script makes by default, in the folder from which it ran."""
    folder = tmp_path_factory.mktemp("synthetic")
    done = subprocess.run([sys.executable, SCRIPT], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("tiny_corpus.txt", "annotations.json", "asr.csv", "tts.csv"))
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_raw_text(LocalStorage(folder), "raw/text")
    return folder / "raw/text"


@pytest.mark.parametrize(("folder", "megabytes"), [("text", 2), ("images", 20), ("audio", 15)])
def test_sizes_are_those_of_the_contract(made: Path, folder: str, megabytes: float) -> None:
    size = sum(len(data) for data in tree(made / "data" / folder).values())
    assert size == pytest.approx(megabytes * 1e6, rel=0.1)


def test_nothing_unfinished_is_left(made: Path) -> None:
    assert not [name for name in tree(made) if TEMP_PREFIX in name]


def test_corpus_holds_one_whole_sample_per_line(made: Path) -> None:
    corpus = (made / "data/text/tiny_corpus.txt").read_bytes()
    assert corpus.endswith(b"\n")
    lines = corpus.decode().split("\n")[:-1]
    assert all(line == " ".join(line.split()) and len(line) >= 8 for line in lines)
    assert len(set(lines)) == len(lines)
    starts = Counter(line.split(": ")[0] for line in lines)
    assert starts["Question"] > 1000 and starts["User"] > 1000
    assert sum(" Call: " in line for line in lines) > 500


def test_every_equation_of_the_corpus_is_right(made: Path) -> None:
    corpus = (made / "data/text/tiny_corpus.txt").read_text(encoding="utf-8")
    equations = re.findall(r"(\d+) ([-+*/]) (\d+) = (-?\d+)", corpus)
    assert len(equations) > 3000
    for first, sign, second, result in equations:
        a, b = int(first), int(second)
        assert int(result) == {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}[sign], (a, sign, b)


def test_tool_calls_are_json(made: Path) -> None:
    corpus = (made / "data/text/tiny_corpus.txt").read_text(encoding="utf-8")
    calls = re.findall(r" Call: \w+ (\{.*?\}) Result: (\{.*?\}) Assistant: ", corpus)
    assert len(calls) == corpus.count(" Call: ")
    assert all(json.loads(arguments) and json.loads(result) for arguments, result in calls)


def test_every_picture_opens_and_is_described(made: Path) -> None:
    folder = made / "data/images"
    entries = json.loads((folder / "annotations.json").read_bytes())
    assert {entry["category"] for entry in entries} == {*image.SHAPES, "pair"}
    for entry in entries:
        assert set(entry) == {"image", "caption", "category"}
        with Image.open(folder / entry["image"]) as picture:
            picture.load()
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (224, 224))
        shapes = [word for word in re.findall(r"\w+", entry["caption"]) if word in image.SHAPES]
        assert shapes == [entry["category"]] or (entry["category"] == "pair" and len(shapes) == 2)
    assert len({entry["image"] for entry in entries}) == len(entries) == len(list(folder.glob("synthetic/*/*.jpg")))


def test_a_picture_shows_the_colour_of_its_caption() -> None:
    seen = set()
    for number in range(120):
        jpeg, caption, category = image.picture(0, number)
        colours = [word for word in re.findall(r"\w+", caption.partition("background")[0]) if word in image.COLOURS]
        if category == "pair" or "plain" not in caption or caption.startswith("On a"):
            continue
        pixels = np.asarray(Image.open(io.BytesIO(jpeg)), np.float32)
        near = {name: (np.abs(pixels - np.array(rgb)).max(axis=2) < 22).sum() for name, rgb in image.COLOURS.items()}
        assert max(near, key=lambda name: near[name]) == colours[0], caption
        seen.add(colours[0])
    assert len(seen) > 3


def test_every_clip_opens_and_both_lists_agree(made: Path) -> None:
    with (made / "data/audio/asr.csv").open(encoding="utf-8", newline="") as stream:
        asr = list(csv.reader(stream))
    with (made / "data/audio/tts.csv").open(encoding="utf-8", newline="") as stream:
        tts = list(csv.reader(stream))
    assert asr[0] == ["wav", "text"]
    assert tts == [[words, wav] for wav, words in asr]
    for wav, words in asr[1:]:
        assert wav.startswith("data/audio/synthetic/")
        wave, rate = soundfile.read(made / wav, dtype="float32")
        with soundfile.SoundFile(made / wav) as stream:
            assert (stream.format, stream.subtype, stream.channels) == ("FLAC", "PCM_16", 1)
        assert rate == 16_000 and 1 <= len(wave) / rate <= 10
        assert 0.2 < np.abs(wave).max() < 0.9
        assert re.fullmatch(r"[a-z]+( [a-z]+)*", words) and len(words) <= 64
        repeats = sum(a == b for a, b in itertools.pairwise(words))
        assert len(words) + repeats <= len(wave) / rate * 12.5, "CTC at 12.5 frames per second cannot spell it"


def test_letters_sound_different_and_the_same_letter_alike() -> None:
    voice = audio.speakers(0)[3]

    def spectrum(letter: str, seed: int) -> np.ndarray:
        wave = audio.speak(letter * 3, voice, np.random.Generator(np.random.PCG64(seed)))
        power = np.abs(np.fft.rfft(wave, 16_384)) ** 2
        bands = np.log(power[: 64 * 128].reshape(64, 128).mean(axis=1) + 1e-6)
        return bands - bands.mean()

    first, second = ({letter: spectrum(letter, seed) for letter in audio.SOUNDS} for seed in (1, 2))
    for letter, heard in second.items():
        nearest = min(first, key=lambda other: float(((first[other] - heard) ** 2).sum()))
        assert nearest == letter


def test_speakers_differ_in_pitch() -> None:
    pitches = [voice.pitch for voice in audio.speakers(5)]
    assert pitches == sorted(pitches) and pitches[-1] > 2 * pitches[0]


def test_same_seed_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("many", 7)):
        (tmp_path / name).mkdir()
        storage = LocalStorage(tmp_path / name)
        make_images(storage, 3, workers=workers, count=24)
        make_audio(LocalStorage(os.path.relpath(tmp_path / name)), 3, workers=workers, count=12)
    one, many = tree(tmp_path / "one"), tree(tmp_path / "many")
    asr = one.pop("audio/asr.csv"), many.pop("audio/asr.csv")
    tts = one.pop("audio/tts.csv"), many.pop("audio/tts.csv")
    assert one == many
    assert [a.replace(b"/one/", b"/many/") for a in (asr[0], tts[0])] == [asr[1], tts[1]]
    assert text.corpus(3, 50_000) == text.corpus(3, 50_000)


def test_every_item_has_its_own_stream(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    make_images(storage, 0, count=40)
    make_audio(storage, 0, count=20)
    media = [data for name, data in tree(tmp_path).items() if "synthetic/" in name]
    assert len(set(media)) == len(media) == 60


def test_another_seed_gives_other_data(tmp_path: Path) -> None:
    for seed in (0, 1):
        storage = LocalStorage(tmp_path / str(seed))
        make_images(storage, seed, count=10)
        make_audio(storage, seed, count=10)
        make_text(storage, seed)
    zero, one = tree(tmp_path / "0"), tree(tmp_path / "1")
    assert zero.keys() == one.keys()
    assert not [name for name in zero if zero[name] == one[name]]


def test_only_makes_one_modality_and_a_bad_seed_is_wrong_usage(tmp_path: Path) -> None:
    command = [sys.executable, SCRIPT, "--out", "here"]
    subprocess.run([*command, "--only", "text"], cwd=tmp_path, check=True, capture_output=True)
    assert list(tree(tmp_path)) == ["here/text/tiny_corpus.txt"]
    done = subprocess.run([*command, "--seed", "-1"], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 2 and "-1 is negative" in done.stderr


def test_an_output_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    command = [sys.executable, SCRIPT, "--out", "file/data", "--only", "text"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "file/data" in done.stderr and "Traceback" not in done.stderr


# --- raw sources ------------------------------------------------------------------------------------------------------


def test_raw_files_are_the_same_for_a_seed_and_left_alone(raw: Path, tmp_path: Path) -> None:
    again = LocalStorage(tmp_path)
    write_raw_text(again, "raw/text")
    assert tree(tmp_path / "raw/text") == tree(raw)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "raw/text").iterdir()}
    (tmp_path / "raw/text/calls-0.txt").unlink()
    write_raw_text(again, "raw/text")
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "raw/text").iterdir()}
    assert [path.name for path in before if before[path] != after[path]] == ["calls-0.txt"]
    assert tree(tmp_path / "raw/text") == tree(raw)


def test_another_seed_of_raw_files_does_not_pass_for_the_first(raw: Path, tmp_path: Path) -> None:
    write_raw_text(LocalStorage(tmp_path), "raw/text", seed=1)
    other = tree(tmp_path / "raw/text")
    assert sorted(other) == [name.replace("-0", "-1") for name in RAW]
    assert not set(other.values()) & set(tree(raw).values())


def test_catalog_names_the_raw_files_of_all_categories(raw: Path) -> None:
    sources = synthetic_catalog(str(raw)).of("text")
    assert [source.name for source in sources] == [f"synthetic_{name}" for name in CATEGORIES["text"]]
    assert [source.category for source in sources] == list(CATEGORIES["text"])
    assert sorted(url for source in sources for url in source.url) == RAW
    for source in sources:
        assert (source.base / source.url[0]).is_file()
        assert source.license == "CC0-1.0" and source.defined_in == "built in"
    assert 2e6 < sum(len(data) for data in tree(raw).values()) < 4e6


@pytest.mark.parametrize("modality", ["audio", "image"])
def test_raw_media_are_the_same_every_time_and_of_all_categories(tmp_path: Path, modality: Modality) -> None:
    storage = LocalStorage(tmp_path)
    assert not has_raw(storage, modality, "one")
    write_raw(storage, modality, "one")
    write_raw(storage, modality, "two")
    assert has_raw(storage, modality, "one")
    made = tree(tmp_path / "one")
    assert made == tree(tmp_path / "two")
    sources = synthetic_catalog(str(tmp_path / "one"), modality).of(modality)
    assert [source.category for source in sources] == list(CATEGORIES[modality])
    assert sorted(url for source in sources for url in source.url) == sorted(made)
    assert 2e6 < sum(map(len, made.values())) < 12e6


def test_documents_have_long_short_repeated_and_undecodable_ones(raw: Path) -> None:
    assert (raw / "documents-0.tar.gz").read_bytes()[4:8] == bytes(4), "the gzip header holds the time of writing"
    with tarfile.open(raw / "documents-0.tar.gz") as archive:
        members = archive.getmembers()
        contents = [archive.extractfile(member).read() for member in members]  # type: ignore[union-attr]
    assert {member.mtime for member in members} == {0}
    decoded = [_decoded(content) for content in contents]
    assert decoded.count(None) == 2
    good = [content for content in decoded if content is not None]
    assert sum(len(content) > 4000 for content in good) > 20
    assert any(len(content) < 8 for content in good)
    assert len(set(good)) < len(good)


def test_dialogues_are_a_csv_with_newlines_and_quotes_in_its_cells(raw: Path) -> None:
    data = (raw / "dialogues-0.csv").read_bytes()
    rows = list(csv.reader(io.StringIO(data.decode("latin-1"), newline="")))
    assert rows[0] == ["id", "dialogue", "turns"]
    assert {len(row) for row in rows} == {3} and len(rows) == 3001
    dialogues = [row[1] for row in rows[1:]]
    assert sum("\n" in words for words in dialogues) > 2500
    assert any('"' in words for words in dialogues)
    assert sum(not words.isascii() and _decoded(words.encode("latin-1")) is None for words in dialogues) == 3
    assert len(set(dialogues)) < len(dialogues) and "ok" in dialogues


def test_problems_are_json_lines_some_of_them_cut_short(raw: Path) -> None:
    lines = (raw / "problems-0.jsonl").read_bytes().splitlines()
    broken, records = 0, []
    for line in lines:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            broken += 1
    assert broken == 4 and len(records) == 3996
    assert all(set(record) == {"question", "answer"} for record in records)
    assert len({record["question"] for record in records}) < len(records)


def test_calls_are_lines_with_blank_ones_symbols_and_bad_bytes(raw: Path) -> None:
    lines = (raw / "calls-0.txt").read_bytes().split(b"\n")
    decoded = [_decoded(line) for line in lines]
    assert decoded.count(None) == 3
    assert lines.count(b"") == 71  # 70 and the end
    assert sum(set(line or "") == set("-=* ") for line in decoded) == 11
    assert decoded.count("ok") == 16


def _decoded(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def test_numbers_in_words() -> None:
    assert [spoken(n) for n in (0, 13, 20, 42, 99)] == ["zero", "thirteen", "twenty", "forty two", "ninety nine"]


def test_dice_stay_in_range_and_use_it() -> None:
    dice = Dice(0, 9)
    assert {dice.number(-1, 2) for _ in range(500)} == {-1, 0, 1, 2}
    assert sorted(dice.several("abc", 3)) == ["a", "b", "c"]
    assert all(0.5 <= dice.uniform(0.5, 0.7) < 0.7 for _ in range(500))
    assert [Dice(1, 2).below(1000) for _ in range(3)] == [Dice(1, 2).below(1000)] * 3
    assert [Dice(1, n).below(10**6) for n in range(3)] != [Dice(2, n).below(10**6) for n in range(3)]
