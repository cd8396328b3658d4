import json
from pathlib import Path

import pytest

from omni_ray import config
from omni_ray.config import STAGES
from omni_ray.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "tests/data/configs"  # not those that a user may have edited
LEFT_OUT = object()
TEXT, AUDIO, VISION, TALKER, SFT = STAGES


@pytest.mark.parametrize("folder", ["configs", "tests/data/configs"])
@pytest.mark.parametrize("stage", STAGES)
def test_shipped_configs_are_valid_and_carry_a_record(stage: str, folder: str) -> None:
    loaded = config.load(ROOT / folder / STAGES[stage].file, STAGES[stage].config)
    assert loaded.recorded is not None


INT64 = 2**63 - 1
WRONG: list[tuple[str, dict[str, object], str, str]] = [
    # stage, what is set, what the message says of key and value, and what is allowed
    (TEXT, {"batch_siz": 8}, "batch_siz = 8", "did you mean batch_size? Allowed are batch_size, "),
    (TEXT, {"batch_size": LEFT_OUT}, "batch_size", "is missing; add it"),
    (TEXT, {"batch_size": "8"}, 'batch_size = "8"', "should be a valid integer"),
    (TEXT, {"batch_size": 0}, "batch_size = 0", "greater than or equal to 1"),
    (TEXT, {"batch_size": 8.5}, "batch_size = 8.5", "valid integer"),
    (TEXT, {"n_layers": 10**30}, "n_layers = 1000", f"less than or equal to {INT64}"),
    (TEXT, {"lr": 0}, "lr = 0", "greater than 0"),
    (TEXT, {"use_amp": 1}, "use_amp = 1", "valid boolean"),
    (TEXT, {"lr_schedule": "linear"}, 'lr_schedule = "linear"', "'cosine' or 'wsd'"),
    (TEXT, {"max_epochs": 1e300}, "max_epochs = 1e+300", "less than or equal to 1000000"),
    (TEXT, {"max_epochs": "2"}, 'max_epochs = "2"', "valid"),
    (TEXT, {"n_heads": 3}, "n_heads = 3", "a divisor of d_model = 256 with an even width per head"),
    (TEXT, {"n_heads": 256}, "n_heads = 256", "[1, 2, 4, 8, 16, 32, 64, 128]"),
    (TEXT, {"d_model": 10**12 + 1}, "n_heads = 4", "a divisor of d_model = 1000000000001"),
    (TEXT, {"kv_groups": 3}, "kv_groups = 3", "a divisor of n_heads = 4: [1, 2, 4]"),
    (TEXT, {"use_moe": True, "num_experts": 1}, "num_experts_per_tok = 2", "at most num_experts = 1"),
    (TEXT, {"ngram_sizes": [2, 2]}, "ngram_sizes = [2, 2]", "different sizes, none above ctx_len = 1024"),
    (TEXT, {"ngram_sizes": [3, 1025]}, "ngram_sizes = [3, 1025]", "none above ctx_len = 1024"),
    (TEXT, {"ngram_sizes": [1]}, "ngram_sizes.0 = 1", "greater than or equal to 2"),
    (TEXT, {"ngram_rows": 0}, "ngram_rows = 0", "greater than or equal to 1"),
    (TEXT, {"warmup_steps": 700_000}, "warmup_steps = 700000", "at most max_steps = 625000"),
    (TEXT, {"derived_from.policy": "guess"}, 'derived_from.policy = "guess"', "'table', 'tokens' or 'original'"),
    (TEXT, {"derived_from.polcy": "x"}, 'derived_from.polcy = "x"', "did you mean policy?"),
    (TEXT, {"derived_from.by_hand": ["steps"]}, 'derived_from.by_hand.0 = "steps"', "'max_steps'"),
    (TEXT, {"derived_from.values.max_steps": 9}, "derived_from.values.warmup_steps = 31250", "at most 9"),
    (AUDIO, {"n_heads": 5}, "n_heads = 5", "a divisor of d_model = 192"),
    (AUDIO, {"target_hz": 25}, "target_hz = 25.0", "sample_rate / frame_hop / downsample_time = 12.5"),
    (AUDIO, {"downsample_time": 6}, "downsample_time = 6", "a power of two"),
    (AUDIO, {"frame_win": 100}, "frame_win = 100", "at least frame_hop = 160"),
    (VISION, {"patch": 15}, "patch = 15", "a divisor of img_size = 224: [1, 2, 4, 7, 8, 14, 16"),
    (TALKER, {"frame_ms": 40}, "frame_ms = 40.0", "1000 / frame_rate = 80"),
    (SFT, {"sft_mix.weights.text": -1}, "sft_mix.weights.text = -1", "greater than or equal to 0"),
    (SFT, {"sft_mix.weights.txt": 1.0}, "sft_mix.weights.txt = 1.0", "did you mean text?"),
    (SFT, {"sft_mix.weights": {"text": 0, "image": 0, "audio": 0}}, "sft_mix.weights = {", "at least one above 0"),
    (SFT, {"thinker.d_model": 250}, "thinker.n_heads = 4", "a divisor of d_model = 250"),
]


def written(folder: Path, stage: str, settings: dict[str, object]) -> Path:
    """A shipped config with other values at the dotted keys."""
    values = json.loads((CONFIGS / STAGES[stage].file).read_text())
    for key, value in settings.items():
        *parents, last = key.split(".")
        section = values
        for parent in parents:
            section = section[parent]
        if value is LEFT_OUT:
            del section[last]
        else:
            section[last] = value
    path = folder / STAGES[stage].file
    path.write_text(json.dumps(values))
    return path


@pytest.mark.parametrize(("stage", "settings", "said", "allowed"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_named_by_file_key_value_and_what_is_allowed(
    tmp_path: Path, stage: str, settings: dict[str, object], said: str, allowed: str
) -> None:
    path = written(tmp_path, stage, settings)
    with pytest.raises(ConfigError) as raised:
        config.load(path, STAGES[stage].config)
    lines = [line for line in str(raised.value).splitlines() if line.startswith(f"{path}: {said}")]
    assert lines and any(allowed in line for line in lines), str(raised.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT, {"lr": "x", "sed": 42})
    with pytest.raises(ConfigError, match=r"(?s)lr = .*sed = 42: unknown key"):
        config.load(path, STAGES[TEXT].config)


def test_steps_set_by_hand_may_be_fewer_than_a_derived_warmup(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT, {"max_steps": 100})
    assert config.load(path, STAGES[TEXT].config).max_steps == 100  # a launch gives the warmup its share of them


def test_a_config_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.json: no such file; name a config that is there"):
        config.load(tmp_path / "nothing.json", STAGES[TEXT].config)
