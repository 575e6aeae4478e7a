"""`python -m benchmarks scale`: what a second process brings here, and many would elsewhere."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from benchmarks import scale, torch_layer
from benchmarks.engine import Row
from benchmarks.tables import CASE, THREE_DIGITS, Column, table
from throughtime.arrays import refuse
from throughtime.storage import replace

MEASURED = (
    CASE,
    Column("parameters", "numbers", ",d"),
    Column("c µs", "step_us", THREE_DIGITS),
    Column("o ms", "fixed_ms", THREE_DIGITS),
    Column("one ms", "alone_ms", THREE_DIGITS),
    Column("apart", "apart_ms", THREE_DIGITS),
    Column("predicted", "two_predicted_ms", THREE_DIGITS),
    Column("two ms", "two_ms", THREE_DIGITS),
    Column("predicted", "predicted", ".0%"),
    Column("efficiency", "efficiency", ".0%"),
)
ONE_AND_TWO = """Milliseconds an update, in one thread a process: of one; of two with half the
streams each, apart (without the all-reduce), as that and the all-reduce predict, and as measured"""
PAYING = f"""B·T from which N machines reach {scale.PAYS:.0%} of N times the speed of one, each as
fast as this one in one thread (in brackets: from which they are as fast as one)"""


def add(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the kind."""
    kind = kinds.add_parser("scale", help="training in two processes, and what many would bring")
    kind.add_argument(
        "--gigabits",
        nargs="+",
        type=float,
        default=scale.GIGABITS,
        metavar="X",
        help="bandwidths of networks, Gbit/s; default 1 10 100",
    )
    kind.add_argument("--quick", action="store_true", help="two models, briefly")
    kind.add_argument("--json", metavar="FILE", help="write the rows")
    kind.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the tables."""
    if torch_layer.find() is None:
        raise ImportError("processes meet through torch: pip install 'throughtime[torch]'")
    for gigabits in options.gigabits:
        if not gigabits > 0:
            refuse("--gigabits", "numbers above 0", gigabits)
    models = scale.MODELS[:2] if options.quick else scale.MODELS
    network, rows = scale.measure(models, 0.5 if options.quick else 5.0)
    latency, bandwidth = 1e6 * network.latency, network.bandwidth / 1e9
    print("All-reduce between two processes of this machine:", end=" ")
    print(f"latency {latency:.0f} µs, bandwidth {bandwidth:.2g} GB/s")
    print(f"\n{ONE_AND_TWO}\n" + table(rows, MEASURED))
    found = elsewhere(rows, options.gigabits)
    print(f"\n{PAYING}\n" + table(found, columns()))
    if options.json:
        content = {"network": vars(network), "rows": rows, "elsewhere": found}
        replace(options.json, json.dumps(content, indent=1, ensure_ascii=False).encode())
    return 0


def columns() -> list[Column]:
    """The network, and a column for every number of machines."""
    several = [Column(f"N = {n}", f"machines_{n}", "s") for n in scale.SEVERAL]
    return [CASE, Column("Gbit/s", "gigabits", "g"), *several]


def elsewhere(rows: Sequence[Row], gigabits: Sequence[float]) -> list[Row]:
    """One row a model and network."""
    found = []
    for row in rows:
        own = scale.Computing(row["fixed_ms"] / 1e3, row["step_us"] / 1e6, row["numbers"])
        for speed in gigabits:
            network = scale.Network(scale.LATENCY, speed * 1e9 / 8)
            line: Row = {"case": row["case"], "gigabits": speed}
            for n in scale.SEVERAL:
                pays, even = (
                    scale.work_that_pays(own, network, n, share) for share in (scale.PAYS, 1 / n)
                )
                line[f"machines_{n}"] = f"{pays:,.0f} ({even:,.0f})"
            found.append(line)
    return found
