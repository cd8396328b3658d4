"""`omni-ray infer`: let a trained model go on with a text."""

import argparse

from omni_ray.errors import UsageError


def add_parser(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the infer command's arguments."""
    parser.add_argument("--ckpt", required=True, metavar="DIR", help="a run's folder (its newest checkpoint), or one")
    parser.add_argument("--text", required=True, help="what to go on with; may be empty")
    parser.add_argument("--max-tokens", type=int, default=200, metavar="N", help="at most so many (default: 200)")
    parser.add_argument(
        "--temperature", type=float, default=0.8, metavar="T", help="0 takes the likeliest token (default: 0.8)"
    )
    parser.add_argument("--top-p", type=float, default=0.95, metavar="P", help="nucleus sampling (default: 0.95)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed, the same text (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    """Print the text and what follows it.

    Raises:
        UsageError: where there is no checkpoint, or the text is longer than the model's context.
        DataError: where the checkpoint is damaged.
    """
    from omni_ray import config as configs  # not at the top: importing torch takes seconds that --help can save
    from omni_ray.jobs import resolve_out
    from omni_ray.models.generate import generate
    from omni_ray.models.thinker import Thinker
    from omni_ray.train import tokenizer as tokenizers
    from omni_ray.train.checkpoint import open_checkpoint
    from omni_ray.train.packing import END
    from omni_ray.train.token_store import TOKENIZER

    if arguments.temperature < 0 or not 0 < arguments.top_p <= 1 or arguments.max_tokens < 1:
        raise UsageError("infer: temperature is 0 or more, top-p in (0, 1], max-tokens 1 or more")
    saved = open_checkpoint(resolve_out(arguments.ckpt))
    config = configs.validate(saved.config, configs.ThinkerConfig, saved.place)
    model = Thinker(config)
    saved.load_model(model)
    tokenizer = tokenizers.load(saved.read(TOKENIZER).decode())
    prompt = [END, *tokenizer.encode(arguments.text, add_special_tokens=False).ids]
    if len(prompt) > config.ctx_len:
        raise UsageError(f"--text: {len(prompt):,} tokens, and the model's context is {config.ctx_len:,}; shorten it")
    found = generate(
        model.eval(), prompt, END, arguments.max_tokens, arguments.temperature, arguments.top_p, arguments.seed
    )
    print(arguments.text + tokenizer.decode(list(found)))
    return 0
