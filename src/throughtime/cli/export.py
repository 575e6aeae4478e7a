"""`throughtime export`: a trained network as one file of C99."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import numpy as np

from throughtime import storage
from throughtime.arrays import refuse
from throughtime.cells import WINDOW
from throughtime.cli import say
from throughtime.cli.outputs import spare_inputs, writable
from throughtime.network import Network, network_as_c
from throughtime.training import load_checkpoint

EPILOG = """examples:
  throughtime export throughtime.safetensors --c net.c
  throughtime export throughtime.safetensors --c net.c --blob net.bin --steps 64
  cc -std=c99 -shared -fPIC -DNET_CHECK net.c -o net.so -lm && throughtime check ./net.so"""

DESCRIPTION = """\
Writes a network as one file of C99 that needs math.h alone and allocates nothing: a step at a
time for streams, backward through a window, and updates of the parameters. Everything in it
begins with the file's name."""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills the subcommand's parser."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="written by `throughtime train` or Network.save",
    )
    parser.add_argument("--c", metavar="FILE", required=True, help="the file of C to write")
    parser.add_argument(
        "--blob", metavar="FILE", help="a file for the parameters, which the C then leaves out"
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=WINDOW,
        metavar="T",
        help=f"the longest window that is differentiated at once (default {WINDOW})",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Writes the file, and the blob where one is wanted."""
    writable("--c", options.c)
    spare_inputs("--c", options.c, options)
    if options.blob:
        writable("--blob", options.blob)
        spare_inputs("--blob", options.blob, options)
        if Path(options.blob).resolve() == Path(options.c).resolve():
            refuse("--blob", "another file than that of --c", options.blob)
    network = _network(options.checkpoint)
    stem = re.sub(r"\W", "_", Path(options.c).stem, flags=re.ASCII)
    name = stem if re.match(r"[A-Za-z]", stem) else f"net_{stem}"
    text = network_as_c(network, name, steps=options.steps, weights=not options.blob)
    storage.replace(options.c, text.encode())
    if options.blob:
        little = network.parameters.flat.astype(np.dtype(network.dtype).newbyteorder("<"))
        storage.replace(options.blob, little.tobytes())
    count = network.parameters.flat.size
    say(f"{options.c}: {count:,} parameters, {name}_step and others; {len(text):,} characters")
    return 0


def _network(path: str) -> Network:
    """The network of a checkpoint, or of a file that `Network.save` wrote."""
    _, metadata = storage.read(path)
    if "format" in metadata:
        return load_checkpoint(path).network
    return Network.load(path)
