"""`throughtime sample`: text from a trained model."""

from __future__ import annotations

import argparse
import sys

from throughtime import training
from throughtime.arrays import visible

EPILOG = """example:
  throughtime sample throughtime.safetensors --temperature 0.7 --prompt 'def '"""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills the subcommand's parser."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="written by `throughtime train`")
    parser.add_argument("--length", type=int, default=500, help="characters (default 500)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=0.8,
        help="1: the model's distribution; less: more cautious; 0: the most probable (default 0.8)",
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of the draws (default 0)")
    parser.add_argument("--prompt", default="", help="what the text begins with")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the prompt and its continuation, character by character."""
    saved = training.load_checkpoint(options.checkpoint)
    known = saved.vocabulary.characters
    start = options.prompt or ("\n" if "\n" in known else known[0])
    characters = training.sample(
        saved.network,
        saved.vocabulary,
        options.length,
        temperature=options.temperature,
        seed=options.seed,
        prompt=start,
    )
    shown = visible if sys.stdout.isatty() else str  # a stranger's characters may be any
    print(options.prompt, end="", flush=True)
    for character in characters:
        print(shown(character), end="", flush=True)
    print()
    return 0
