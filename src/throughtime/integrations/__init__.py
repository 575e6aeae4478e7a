"""Callbacks for the trainers of others: Lightning and Hugging Face Transformers.

`LightningFlow` and `TrainerFlow` derive from these packages' own callbacks, and the package is
imported when one of them is first asked for.
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from throughtime.integrations.lightning_flow import LightningHooks
from throughtime.integrations.trainer_flow import TrainerHooks

__all__ = ["LightningFlow", "TrainerFlow"]

LIGHTNINGS = ("lightning.pytorch", "pytorch_lightning")  # two packages, each with its own Callback


def __getattr__(name: str) -> Any:
    if name == "LightningFlow":
        loaded = [one for one in LIGHTNINGS if one in sys.modules]
        there = [one for one in LIGHTNINGS if find_spec(one.partition(".")[0]) is not None]
        if not there:
            raise ImportError("LightningFlow: expected Lightning, got none; pip install lightning")
        return _derived(name, LightningHooks, (loaded or there)[0], "Callback")
    if name == "TrainerFlow":
        if find_spec("transformers") is None:
            raise ImportError(
                "TrainerFlow: expected transformers, got none; pip install 'transformers[torch]'"
            )
        return _derived(name, TrainerHooks, "transformers", "TrainerCallback")
    raise AttributeError(f"module 'throughtime.integrations' has no attribute {name!r}")


@cache
def _derived(name: str, hooks: type, package: str, base: str) -> type:
    """The hooks as a class of the package's own kind."""
    own = getattr(import_module(package), base)
    return type(name, (hooks, own), {"__doc__": hooks.__doc__, "__module__": __name__})
