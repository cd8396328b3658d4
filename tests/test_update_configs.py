import json
import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omni_ray import config, journal
from omni_ray.config import STAGES
from omni_ray.update_configs import main

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts/update_configs_from_data.py"
FILES = [stage.file for stage in STAGES.values()]
CONTRACT_EXAMPLE = """\
[1] Analyzing Text Dataset...
  Text samples: 2,500,000 (from data/text/production_corpus.txt)

[Stage A] Text-only Training (thinker_tiny.json)
  Samples: 2,500,000
  Steps/epoch: 312,500
  Recommended epochs: 2
  Max steps: 625,000
  Warmup steps: 31,250
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with configs and no data."""
    shutil.copytree(ROOT / "tests/data/configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(home: Path, key: str, data: str) -> Path:
    path = home / "data" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data)
    return path


def put_all(home: Path, kind: str = "production") -> None:
    """All four kinds of data: 1,000 lines, 200 recordings, 3,000 pictures."""
    production = kind == "production"
    put(home, "text/production_corpus.txt" if production else "text/tiny_corpus.txt", "a line\n" * 1_000)
    prefix = "production_" if production else ""
    put(home, f"audio/{prefix}asr.csv", "wav,text\n" + 'a.flac,"two\nlines"\n' * 200)
    put(home, f"audio/{prefix}tts.csv", "text,wav\n" + '"two\nlines",a.flac\n' * 200)
    entries = [{"image": "a.jpg", "caption": "[a]", "category": "b"}] * 3_000
    put(home, f"images/{prefix}annotations.json", json.dumps(entries))


def texts(home: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((home / "configs").iterdir())}


def values(home: Path, stage: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((home / "configs" / STAGES[stage].file).read_text())
    return found


def edit(home: Path, stage: str, old: str, new: str) -> None:
    path = home / "configs" / STAGES[stage].file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_the_contracts_example_to_the_character(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    put(home, "text/production_corpus.txt", "a line of text\n" * 2_500_000)
    assert main(["--dry-run"]) == 0
    assert capfd.readouterr().out.startswith(CONTRACT_EXAMPLE + "\n[2] ")


def test_every_stage_is_derived_and_the_largest_counts_for_the_last(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_all(home)
    before = {stage: values(home, stage) for stage in STAGES}
    assert main(["--world-size", "2"]) == 0
    out = capsys.readouterr().out
    assert out.endswith(f"Updated 5 configs in configs: {', '.join(FILES)}\n")
    derived = {  # samples, steps/epoch: samples // (batch x accumulation x 2)
        "text": (1_000, 62), "audio": (200, 25), "vision": (3_000, 187), "talker": (200, 25), "sft": (3_000, 187),
    }  # fmt: skip
    for stage, (samples, per_epoch) in derived.items():
        after, old = values(home, stage), before[stage]
        steps = per_epoch * 15
        figures = {
            "max_steps": steps,
            "max_epochs": 15,
            "warmup_steps": steps // 20,
            "val_freq": 100,
            "checkpoint_freq": min(steps, 1_000),
        }
        record = {
            "policy": "table",
            "samples": samples,
            "batch_size": old["batch_size"],
            "gradient_accumulation_steps": old["gradient_accumulation_steps"],
            "world_size": 2,
            "values": figures,
        }
        assert after == old | figures | {"derived_from": record}
        assert list(after) == list(old)
        assert f"  Samples: {samples:,}\n  Steps/epoch: {per_epoch}\n  Recommended epochs: 15\n" in out
    assert main(["--world-size", "2"]) == 0
    assert capsys.readouterr().out.endswith("Nothing to change.\n")


def test_synthetic_data_serve_where_there_is_no_production_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_all(home, "synthetic")
    put(home, "text/production_corpus.txt", "a line\n" * 50)
    assert main([]) == 0
    assert "Text samples: 50 (from data/text/production_corpus.txt)" in capsys.readouterr().out
    assert values(home, "text")["train_text"] == "data/text/production_corpus.txt"
    assert values(home, "audio")["train_csv"] == "data/audio/asr.csv"
    assert values(home, "vision")["train_manifest"] == "data/images/annotations.json"
    assert values(home, "vision")["image_root"] == "data/images"
    assert values(home, "talker")["tts_csv"] == "data/audio/tts.csv"
    mix = values(home, "sft")["sft_mix"]
    assert isinstance(mix, dict)
    assert {key: value for key, value in mix.items() if key != "weights"} == {
        "text_path": "data/text/production_corpus.txt",
        "image_manifest": "data/images/annotations.json",
        "image_root": "data/images",
        "asr_csv": "data/audio/asr.csv",
    }


def test_paths_follow_the_data_folder(home: Path) -> None:
    put_all(home)
    shutil.move(home / "data", home / "else where")
    assert main(["--data-dir", f"{home}/else where/"]) == 0
    assert values(home, "text")["train_text"] == f"{home}/else where/text/production_corpus.txt"
    assert values(home, "vision")["image_root"] == f"{home}/else where/images"


def test_a_modality_without_data_is_named_and_left_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(home, "text/production_corpus.txt", "a line\n" * 500)
    before = texts(home)
    assert main([]) == 0
    out = capsys.readouterr().out
    assert "No audio data: neither data/audio/production_asr.csv nor data/audio/asr.csv\n" in out
    for letter, file, missing in (
        ("B", FILES[1], "no audio data"),
        ("C", FILES[2], "no image data"),
        ("D", FILES[3], "no speech data"),
        ("E", FILES[4], "no image data and no audio data"),
    ):
        heading = next(line for line in out.splitlines() if line.startswith(f"[Stage {letter}]"))
        assert heading.endswith(f"({file})")
        assert f"{heading}\n  Left alone: {missing}\n" in out
        assert texts(home)[file] == before[file]
    assert texts(home)[FILES[0]] != before[FILES[0]]


def test_without_any_data_nothing_happens(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = texts(home)
    assert main(["--data-dir", "nowhere"]) == 0
    assert "Nothing to change: nowhere holds no data for these configs" in capsys.readouterr().out
    assert texts(home) == before


def test_a_dry_run_says_the_same_with_a_difference_and_writes_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_all(home)
    before = texts(home)
    assert main(["--dry-run"]) == 0
    dry = capsys.readouterr().out
    assert texts(home) == before
    assert '-  "max_steps": 625000,\n-  "warmup_steps": 31250,\n' in dry
    assert '+  "max_steps": 1875,\n+  "warmup_steps": 93,\n' in dry
    assert "\x1b[" not in dry
    assert main([]) == 0
    wet = capsys.readouterr().out
    assert dry.split("--- ")[0] == wet.split("Updated")[0]


def test_a_terminal_shows_the_difference_in_colours(home: Path) -> None:
    put_all(home)
    reader, writer = pty.openpty()
    argv = [sys.executable, str(SCRIPT), "--dry-run"]
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"}
    with subprocess.Popen(argv, stdout=writer, cwd=home, env=environment) as process:
        os.close(writer)
        shown = b""
        while chunk := _read_terminal(reader):
            shown += chunk
    os.close(reader)
    assert process.returncode == 0
    assert b'\x1b[31m-  "max_steps": 625000,\x1b[0m' in shown
    assert b'\x1b[32m+  "max_steps": 1875,\x1b[0m' in shown


def _read_terminal(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # how Linux says that the other side is closed
        return b""


def test_formatting_and_every_other_key_stay(home: Path) -> None:
    put_all(home)
    edit(home, "text", '  "lr": 3e-4,\n', '\t"lr": 3.00e-4,    "lr_schedule" : "wsd",\n\n')
    edit(home, "text", '  "lr_schedule": "cosine",\n', "")
    before = texts(home)[FILES[0]].splitlines()
    assert main([]) == 0
    after = texts(home)[FILES[0]].splitlines()
    assert len(after) == len(before)
    changed = {old.split(":")[0].strip() for old, new in zip(before, after, strict=True) if old != new}
    assert changed == {'"max_epochs"', '"max_steps"', '"warmup_steps"', '"val_freq"', '"checkpoint_freq"', '"samples"'}


def test_what_was_set_by_hand_stands_run_after_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_all(home)
    edit(home, "text", '"max_steps": 625000,\n  "w', '"max_steps": 400,\n  "w')
    edit(home, "text", '"val_freq": 1000,\n  "checkpoint', '"val_freq": 7,\n  "checkpoint')
    for _ in range(2):
        assert main([]) == 0
        out = capsys.readouterr().out
        assert "  Max steps: 400 (set by hand; the data give 1,875)\n  Warmup steps: 20\n" in out
        assert "  Validation every: 7 (set by hand; the data give 100)\n" in out
        assert "take its name out of derived_from.by_hand" in out
        found = values(home, "text")
        assert [found[key] for key in ("max_steps", "max_epochs", "warmup_steps", "val_freq")] == [400, 15, 20, 7]
        assert isinstance(found["derived_from"], dict)
        assert found["derived_from"]["by_hand"] == ["max_steps", "val_freq"]
        put(home, "text/production_corpus.txt", "a line\n" * 1_000)
    put(home, "text/production_corpus.txt", "a line\n" * 213_333)
    assert main([]) == 0
    assert values(home, "text")["max_steps"] == 400
    edit(home, "text", '      "max_steps",\n', "")  # the name taken out of the list
    assert main([]) == 0
    assert values(home, "text")["max_steps"] == 213_333 // 8 * 4
    assert values(home, "text")["val_freq"] == 7


def test_a_config_without_a_record_is_set_by_hand(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_all(home)
    plain = {key: value for key, value in values(home, "text").items() if key != "derived_from"}
    (home / "configs" / FILES[0]).write_text(json.dumps(plain))
    assert main([]) == 0
    assert "Recommended epochs: 2 (set by hand; the data give 15)" in capsys.readouterr().out
    found = values(home, "text")
    assert {key: found[key] for key in plain} == plain
    assert isinstance(found["derived_from"], dict)
    assert sorted(found["derived_from"]["by_hand"]) == sorted(config.Figures.model_fields)


def test_a_warmup_set_by_hand_that_the_data_cannot_hold_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put_all(home)
    edit(home, "text", '"warmup_steps": 31250,\n  "val', '"warmup_steps": 5000,\n  "val')
    before = texts(home)
    assert main([]) == 2
    assert "configs/thinker_tiny.json: warmup_steps = 5,000: longer than the run" in capsys.readouterr().err
    assert texts(home) == before


def write_index(corpus: Path, rows: int, size: int, file: str = "production_corpus.txt") -> None:
    """An index as combining leaves one, but for its columns."""
    facts = msgspec.json.encode({"file": file, "bytes": size, "rows": rows, "selection": "x"}).decode()
    table = pa.table({"key": ["a"]}).replace_schema_metadata({"omni_ray": facts})
    pq.write_table(table, corpus.with_suffix(".index.parquet"))


def test_counting_takes_the_index_beside_a_production_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = put(home, "text/production_corpus.txt", "a line\n" * 10)
    write_index(corpus, 2_500_000, corpus.stat().st_size)  # a number that only the index says
    assert main(["--dry-run"]) == 0
    assert "Text samples: 2,500,000" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", ["size", "age", "name", "damaged", "foreign", "no rows"])
def test_an_index_that_does_not_fit_is_not_believed(home: Path, capsys: pytest.CaptureFixture[str], wrong: str) -> None:
    corpus = put(home, "text/production_corpus.txt", "a line\n" * 10)
    size, index = corpus.stat().st_size, corpus.with_suffix(".index.parquet")
    write_index(
        corpus, 0 if wrong == "no rows" else 99, size + (wrong == "size"), "x" if wrong == "name" else corpus.name
    )
    if wrong == "age":
        os.utime(index, ns=(0, corpus.stat().st_mtime_ns - 1))
    elif wrong == "damaged":
        index.write_bytes(index.read_bytes()[:-9])
    elif wrong == "foreign":
        pq.write_table(pa.table({"key": ["a"]}), index)
    assert main(["--dry-run"]) == 0
    assert "Text samples: 10 (from" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "data", "message"),
    [
        ("text/production_corpus.txt", "", "is empty"),
        ("text/production_corpus.txt", "\ufeffa line\n", "byte order mark"),
        ("audio/production_asr.csv", "", "is empty"),
        ("audio/production_asr.csv", "wav,text\n", "its header and no record"),
        ("audio/production_asr.csv", "text,wav\nx,a.flac\n", "the first line must be the header 'wav,text'"),
        ("audio/production_asr.csv", "\ufeffwav,text\na,b\n", "byte order mark"),
        ("audio/production_tts.csv", "wav,text\na,b\n", "the first line must be the header 'text,wav'"),
        ("audio/production_tts.csv", 'text,wav\n"a', "the file is cut off"),
        ("images/production_annotations.json", "", "is empty"),
        ("images/production_annotations.json", "[]", "holds no entry"),
        ("images/production_annotations.json", '[{"image": "a"}, {"im', "the file is cut off"),
        ("images/production_annotations.json", '{"images": []}', "is a JSON object"),
        ("images/production_annotations.json", "\ufeff[{}]", "byte order mark"),
    ],
)
def test_a_bad_data_file_is_an_error_and_nothing_is_written(
    home: Path, capsys: pytest.CaptureFixture[str], key: str, data: str, message: str
) -> None:
    put_all(home)
    before = texts(home)
    put(home, key, data)
    assert main([]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"omni_ray: data/{key}: ") and message in error
    assert texts(home) == before


def test_all_wrong_configs_are_named_and_nothing_is_written(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_all(home)
    edit(home, "vision", '"patch": 16', '"patch": 15')
    (home / "configs" / FILES[3]).write_text(texts(home)[FILES[3]][:100])  # half written
    before = texts(home)
    assert main([]) == 2
    error = capsys.readouterr().err
    assert "configs/vision_tiny.json: patch = 15: allowed is a divisor of img_size = 224" in error
    assert "configs/talker_tiny.json: line " in error
    assert texts(home) == before


def test_a_config_that_is_not_there_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_all(home)
    (home / "configs" / FILES[4]).unlink()
    assert main([]) == 0
    assert f"({FILES[4]})\n  Left alone: no such file in configs\n" in capsys.readouterr().out
    assert not (home / "configs" / FILES[4]).exists()


@pytest.mark.parametrize("folder", ["nowhere", "data"])
def test_a_folder_without_configs_is_refused(home: Path, capsys: pytest.CaptureFixture[str], folder: str) -> None:
    put_all(home)
    assert main(["--configs-dir", folder]) == 2
    assert f"{folder}: holds none of thinker_tiny.json" in capsys.readouterr().err


def test_a_folder_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--data-dir", ""])
    assert "argument --data-dir: give a folder" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "-1", "1.5", "x", "9" * 19, "9" * 5_000])
def test_a_world_size_is_a_whole_number(home: Path, capsys: pytest.CaptureFixture[str], size: str) -> None:
    with pytest.raises(SystemExit) as raised:
        main([f"--world-size={size}"])
    assert raised.value.code == 2
    assert "give a whole number of 1 to" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("passage", range(1, 8))
def test_killed_between_two_writes_all_configs_are_old_or_all_are_new(
    home: Path, capsys: pytest.CaptureFixture[str], passage: int
) -> None:
    put_all(home)
    old = texts(home)
    assert main([]) == 0
    new = texts(home)
    for name, text in old.items():
        (home / "configs" / name).write_text(text)
    environment = os.environ | {"OMNI_RAY_STOP": f"updating@{passage}"}
    done = subprocess.run([sys.executable, SCRIPT], cwd=home, env=environment, timeout=120, start_new_session=True)
    assert done.returncode == -signal.SIGKILL
    left = {name: text for name, text in texts(home).items() if name in FILES}
    assert sum(left[name] == new[name] for name in FILES) == max(0, min(passage - 2, 5))
    assert all(left[name] in (old[name], new[name]) for name in FILES)
    capsys.readouterr()
    assert main(["--dry-run"]) == 0
    assert capsys.readouterr().out.endswith("5 configs would change.\n" if passage == 1 else "Nothing to change.\n")
    assert {name: text for name, text in texts(home).items() if name in FILES} == left  # a look changes nothing
    config.load(home / "configs" / FILES[4], STAGES["sft"].config)  # what any other command begins with
    assert texts(home) == (old if passage == 1 else new)
    assert main([]) == 0
    assert texts(home) == new
    assert not (home / "configs" / journal.JOURNAL).exists()
