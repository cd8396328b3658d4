"""Stage configs: typed, and checked when they are read. An error names file, key, value and what is allowed.

Defaults stand here and nowhere else. A new key may be added; the original's are never renamed.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from omni_ray import journal, json_text
from omni_ray.errors import ConfigError
from omni_ray.schedule import Record, by_hand
from omni_ray.storage import LocalStorage

MOST = 2**63 - 1  # what an array index can be
Count = Annotated[int, Field(ge=1, le=MOST)]
Whole = Annotated[int, Field(ge=0, le=MOST)]
Several = Annotated[int, Field(ge=2, le=MOST)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Epochs = Annotated[int | float, Field(gt=0, le=1_000_000)]  # a part of an epoch is a length too
Text = Annotated[str, StringConstraints(min_length=1)]


class Problem(NamedTuple):
    """A value that does not go with the others."""

    key: str
    value: object
    allowed: str


class Section(BaseModel):
    """A JSON object of a config."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def problems(self) -> Iterator[Problem]:
        """What single values cannot show: combinations that cannot be."""
        yield from ()


class Figures(Section):
    """The five values that the schedule writes, in optimizer steps and epochs."""

    max_steps: Count
    max_epochs: Epochs
    warmup_steps: Whole
    val_freq: Count
    checkpoint_freq: Count


FigureName = Literal["max_steps", "max_epochs", "warmup_steps", "val_freq", "checkpoint_freq"]


class DerivedFrom(Section):
    """What the five values were derived from, and what they were then: a value that differs since was set by hand."""

    policy: Literal["table", "tokens", "original"]  # original: the starting values that users of the original know
    samples: Count
    batch_size: Count
    gradient_accumulation_steps: Count
    world_size: Count
    by_hand: list[FigureName] = []  # what stood as set by hand when the others were derived
    values: Figures


class StageConfig(Section):
    """What every stage has."""

    lr: Positive = 3e-4
    lr_schedule: Literal["cosine", "wsd"] = "cosine"
    decay_fraction: Share = 0.2  # of max_steps; wsd only, a cosine takes all steps after the warmup
    min_lr_ratio: Fraction = 0.0  # decay to zero: arXiv 2502.15938
    wd: NonNegative
    max_grad_norm: Positive = 1.0
    dropout: Fraction = 0.1
    batch_size: Count
    gradient_accumulation_steps: Count = 1
    max_epochs: Epochs
    max_steps: Count
    warmup_steps: Whole
    val_freq: Count = 500
    val_batches: Count = 50  # of batch_size rows, spread over the held-out ones; the same ones each time
    checkpoint_freq: Count = 5000
    keep_checkpoints: Count = 3  # the newest ones
    val_split: Fraction = 0.1
    print_freq: Count = 100
    num_workers: Whole = 2
    drop_last: bool = True
    use_amp: bool = True
    use_flash: bool = True
    use_compile: bool = True
    use_amp_cpu: bool = False  # on a CPU too: quick where it multiplies bf16 itself (AVX512_BF16, AMX), slow elsewhere
    use_compile_cpu: bool = False  # on a CPU too: needs a C++ compiler, which works for a minute first
    seed: Whole = 42
    save_dir: Text
    derived_from: DerivedFrom | None = None

    @property
    def figures(self) -> dict[str, int | float]:
        return {key: getattr(self, key) for key in Figures.model_fields}

    @property
    def recorded(self) -> Record | None:
        """None where the figures were never derived, so that all of them stand."""
        record = self.derived_from
        return None if record is None else Record(record.values.model_dump(), frozenset(record.by_hand))

    def problems(self) -> Iterator[Problem]:
        if self.warmup_steps > self.max_steps and "warmup_steps" in by_hand(self.figures, self.recorded):
            yield Problem("warmup_steps", self.warmup_steps, f"at most max_steps = {self.max_steps}")
        if self.derived_from is not None and self.derived_from.values.warmup_steps > self.derived_from.values.max_steps:
            values = self.derived_from.values
            yield Problem("derived_from.values.warmup_steps", values.warmup_steps, f"at most {values.max_steps}")


class ThinkerShape(Section):
    """The decoder-only language model."""

    vocab_size: Several
    n_layers: Count
    d_model: Count
    d_ff: Count
    n_heads: Count
    ctx_len: Several
    rope_theta: Positive = 10000
    use_gqa: bool = True
    kv_groups: Count = 1
    use_swiglu: bool = True
    use_moe: bool = False
    num_experts: Count = 8
    num_experts_per_tok: Count = 2
    ngram_sizes: list[Several] = []  # [2, 3]: each token's embedding gets those of the last 2 and 3 together; [] is off
    ngram_rows: Count = 65536  # of each size's table; grams that meet in one share it
    ngram_dim: Count = 64

    def problems(self) -> Iterator[Problem]:
        yield from _heads(self.d_model, self.n_heads, rope=True)
        if len(set(self.ngram_sizes)) < len(self.ngram_sizes) or max(self.ngram_sizes, default=2) > self.ctx_len:
            yield Problem("ngram_sizes", self.ngram_sizes, f"different sizes, none above ctx_len = {self.ctx_len}")
        yield from _groups(self.use_gqa, self.n_heads, self.kv_groups)
        if self.use_moe and self.num_experts_per_tok > self.num_experts:
            yield Problem("num_experts_per_tok", self.num_experts_per_tok, f"at most num_experts = {self.num_experts}")


class ThinkerConfig(ThinkerShape, StageConfig):
    """Stage A, thinker_tiny.json."""

    train_text: Text

    def problems(self) -> Iterator[Problem]:
        yield from ThinkerShape.problems(self)
        yield from StageConfig.problems(self)


class AudioEncConfig(StageConfig):
    """Stage B, audio_enc_tiny.json. `frame_hop` and `frame_win` in samples, `target_hz` in frames a second."""

    mel_bins: Count
    sample_rate: Count
    frame_hop: Count
    frame_win: Count
    downsample_time: Count
    target_hz: Positive
    d_model: Count
    n_layers: Count
    n_heads: Count
    d_ff: Count
    ctc_vocab_size: Several
    max_text_len: Count
    train_csv: Text

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from _heads(self.d_model, self.n_heads)
        if self.frame_win < self.frame_hop:
            yield Problem("frame_win", self.frame_win, f"at least frame_hop = {self.frame_hop}")
        if self.downsample_time & (self.downsample_time - 1):
            yield Problem("downsample_time", self.downsample_time, "a power of two")
        rate = self.sample_rate / self.frame_hop / self.downsample_time
        if self.target_hz != rate:
            yield Problem("target_hz", self.target_hz, f"sample_rate / frame_hop / downsample_time = {rate:g}")


class VisionConfig(StageConfig):
    """Stage C, vision_tiny.json. `img_size` and `patch` in pixels."""

    img_size: Count
    patch: Count
    d_model: Count
    n_layers: Count
    n_heads: Count
    d_ff: Count
    embed_dim: Count
    vocab_size: Several
    temperature: Positive
    train_manifest: Text
    image_root: Text

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from _heads(self.d_model, self.n_heads)
        if self.img_size % self.patch:
            yield Problem("patch", self.patch, f"a divisor of img_size = {self.img_size}: {_divisors(self.img_size)}")


class TalkerConfig(StageConfig):
    """Stage D, talker_tiny.json. `frame_rate` in code frames a second, `frame_ms` the milliseconds of one."""

    d_model: Count
    n_layers: Count
    n_heads: Count
    d_ff: Count
    codebooks: Count
    codebook_size: Several
    rope_theta: Positive = 10000
    frame_rate: Positive
    frame_ms: Positive
    use_gqa: bool = True
    kv_groups: Count = 1
    use_swiglu: bool = True
    sample_rate: Count
    n_mels: Count
    tts_csv: Text

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        yield from _heads(self.d_model, self.n_heads, rope=True)
        yield from _groups(self.use_gqa, self.n_heads, self.kv_groups)
        if self.frame_ms * self.frame_rate != 1000:
            yield Problem("frame_ms", self.frame_ms, f"1000 / frame_rate = {1000 / self.frame_rate:g}")
        if (self.sample_rate / self.frame_rate) % 1:
            yield Problem("frame_rate", self.frame_rate, f"a whole number of samples at {self.sample_rate} Hz a frame")


class Weights(Section):
    """How often a modality is drawn, relative to the others."""

    text: NonNegative = 1.0
    image: NonNegative = 1.0
    audio: NonNegative = 1.0


class SftMix(Section):
    """The data of stage E."""

    text_path: Text
    image_manifest: Text
    image_root: Text
    asr_csv: Text
    weights: Weights = Weights()

    def problems(self) -> Iterator[Problem]:
        if not any(self.weights.model_dump().values()):
            yield Problem("weights", self.weights.model_dump(), "at least one above 0")


class OmniSftConfig(StageConfig):
    """Stage E, omni_sft_tiny.json."""

    thinker_ckpt: Text
    audio_ckpt: Text
    vision_ckpt: Text
    talker_ckpt: Text
    ctx_len: Several
    thinker: ThinkerShape
    prompt: str = ""
    sft_mix: SftMix

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        for name, section in (("thinker", self.thinker), ("sft_mix", self.sft_mix)):
            for key, value, allowed in section.problems():
                yield Problem(f"{name}.{key}", value, allowed)


class Stage(NamedTuple):
    """A training stage and its config file."""

    letter: str
    title: str
    file: str
    config: type[StageConfig]


STAGES: dict[str, Stage] = {
    "text": Stage("A", "Text-only Training", "thinker_tiny.json", ThinkerConfig),
    "audio": Stage("B", "Audio Encoder Training", "audio_enc_tiny.json", AudioEncConfig),
    "vision": Stage("C", "Vision Training", "vision_tiny.json", VisionConfig),
    "talker": Stage("D", "Talker Training", "talker_tiny.json", TalkerConfig),
    "sft": Stage("E", "Multimodal Fine-tuning", "omni_sft_tiny.json", OmniSftConfig),
}

Config = TypeVar("Config", bound=StageConfig)


def load(path: Path, model: type[Config]) -> Config:
    """The config at `path`. Finishes an update of the configs that was interrupted.

    Raises:
        ConfigError: naming file, key, value and what is allowed; all that is wrong at once.
        StorageError: where the file cannot be read.
    """
    if path.parent.is_dir():
        journal.finish(path.parent)
    storage = LocalStorage(path.parent)
    if not storage.exists(path.name):
        raise ConfigError(f"{path}: no such file; name a config that is there (--config, --configs-dir)")
    return parse(json_text.decode(storage.read(path.name), str(path)), model, str(path))


def parse(text: str, model: type[Config], where: str) -> Config:
    """The config that `text` holds; `where` names it in messages.

    Raises:
        ConfigError: as `load`.
    """
    return validate(json_text.parse_object(text, where), model, where)


def validate(values: Mapping[str, Any], model: type[Config], where: str) -> Config:
    """The config with these values.

    Raises:
        ConfigError: as `load`.
    """
    try:
        config = model.model_validate(values)
    except ValidationError as error:
        messages = dict.fromkeys(_message(where, model, dict(found)) for found in error.errors())
        raise ConfigError("\n".join(messages)) from error
    wrong = [f"{where}: {key} = {json.dumps(value)}: allowed is {allowed}" for key, value, allowed in config.problems()]
    if wrong:
        raise ConfigError("\n".join(wrong))
    return config


def _message(where: str, model: type[StageConfig], found: dict[str, Any]) -> str:
    loc = tuple(part for part in found["loc"] if part not in ("int", "float"))  # pydantic names the arm of a union
    key = ".".join(map(str, loc))
    if found["type"] == "missing":
        return f"{where}: {key} is missing; add it"
    value = json.dumps(found["input"], ensure_ascii=False)[:80]
    if found["type"] != "extra_forbidden":
        return f"{where}: {key} = {value}: {found['msg']}"
    section: type[BaseModel] = model
    for part in loc[:-1]:
        section = _section(section, str(part))
    names = sorted(section.model_fields)
    near = difflib.get_close_matches(str(loc[-1]), names, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{where}: {key} = {value}: unknown key; {meant}Allowed are {', '.join(names)}"


def _section(model: type[BaseModel], key: str) -> type[BaseModel]:
    """The model of a nested object, optional or not."""
    kind = model.model_fields[key].annotation
    arms = (kind, *get_args(kind))
    return next(arm for arm in arms if isinstance(arm, type) and issubclass(arm, BaseModel))


def _heads(d_model: int, n_heads: int, rope: bool = False) -> Iterator[Problem]:
    if d_model % n_heads or (rope and d_model // n_heads % 2):
        fits = [heads for heads in _divisors(d_model) if not rope or d_model // heads % 2 == 0]
        even = " with an even width per head, which rotary positions need" if rope else ""
        yield Problem("n_heads", n_heads, f"a divisor of d_model = {d_model}{even}: {fits}")


def _groups(use_gqa: bool, n_heads: int, kv_groups: int) -> Iterator[Problem]:
    if use_gqa and n_heads % kv_groups:
        yield Problem("kv_groups", kv_groups, f"a divisor of n_heads = {n_heads}: {_divisors(n_heads)}")


def _divisors(number: int) -> list[int]:
    """Those up to 1,024: larger ones are no sensible number of heads, groups or pixels."""
    return [divisor for divisor in range(1, min(number, 1_024) + 1) if number % divisor == 0]
