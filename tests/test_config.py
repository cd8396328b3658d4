from pathlib import Path

import pytest

from omni_ray import config
from omni_ray.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SHIPPED = {
    "thinker_tiny.json": config.ThinkerConfig,
    "audio_enc_tiny.json": config.AudioEncConfig,
    "vision_tiny.json": config.VisionConfig,
    "talker_tiny.json": config.TalkerConfig,
    "omni_sft_tiny.json": config.OmniSftConfig,
}


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configs_are_valid(name: str) -> None:
    config.load(CONFIGS / name, SHIPPED[name])


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('"batch_size": 8', '"batch_siz": 8', "batch_siz"),
        ('"batch_size": 8', '"batch_size": "8"', "batch_size"),
        ('"n_heads": 4', '"n_heads": 3', "n_heads"),
        ('"kv_groups": 2', '"kv_groups": 3', "kv_groups"),
    ],
)
def test_a_wrong_config_is_named_by_file_and_key(tmp_path: Path, old: str, new: str, key: str) -> None:
    text = (CONFIGS / "thinker_tiny.json").read_text()
    assert old in text
    path = tmp_path / "thinker_tiny.json"
    path.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=rf"thinker_tiny\.json.*{key}"):
        config.load(path, config.ThinkerConfig)
