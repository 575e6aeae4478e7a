"""Losses: those that a file has, and usual ones for a backward pass that has none beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from throughtime.gradcheck import CheckError
from throughtime.source.bench import Bench
from throughtime.source.meanings import BATCH, STEPS, role
from throughtime.source.pairing import numbers


@dataclass(frozen=True)
class Output:
    """What of a forward pass's result the loss is made of.

    Args:
        text: an expression of an array.
        raw: the expression of what it is in the user's code.
        shape: of the array.
        ones: whether its entries over the outputs sum to 1.
        axis: of the outputs: the last, or the last but one.
    """

    text: str
    raw: str
    shape: tuple[int, ...]
    ones: bool
    axis: int = -1


def elements_of(out: object, names: Sequence[str]) -> list[tuple[str, str]]:
    """Names and expressions of what a call gave."""
    if isinstance(out, tuple) or (isinstance(out, list) and len(names) == len(out) > 1):
        padded = [*names, *[""] * len(out)] if len(names) == len(out) else [""] * len(out)
        return [(padded[n], f"out[{n}]") for n in range(len(out))]
    if isinstance(out, dict) and all(isinstance(key, str) for key in out):
        return [(key, f"out[{key!r}]") for key in out]
    return [(names[0] if len(names) == 1 else "", "out")]


def is_filled(value: object) -> bool:
    """Whether it is an array of numbers, or a list of such, and not empty."""
    return isinstance(value, np.ndarray | list | dict) and len(value) > 0


def outputs_of(out: object, names: Sequence[str], bench: Bench) -> Iterator[Output]:
    """The arrays in the result of a forward pass that a loss may be made of, likeliest first."""
    elements = elements_of(out, names)
    ordered = sorted(elements, key=lambda pair: role(pair[0]) != "prediction")
    shown = 0
    last: Output | None = None
    for name, text in ordered:
        value = value_of(bench, text)
        if value is None or role(name) == "cache":
            continue
        array, expression = _stacked(value, text)
        if array is None or array.size < 1 or array.ndim < 1 or array.dtype.kind != "f":
            continue
        axis = _axis(array)
        found = Output(expression, text, array.shape, bool(np.allclose(array.sum(axis), 1)), axis)
        yield found
        last = last or _last_step(found, value)
        shown += 1
        if shown == 3:
            break
    if last is not None:
        yield last


def _last_step(output: Output, value: Any) -> Output | None:
    """What a list of outputs, one for each step, ends with: the loss may be of that alone."""
    if not isinstance(value, list) or len(value) != STEPS or len(output.shape) < 2:
        return None
    return at_end(output)


def at_end(output: Output) -> Output:
    """The last of outputs of all steps."""
    shape = output.shape[1:]
    axis = output.axis if len(shape) > 1 else -1
    return Output(f"{output.text}[-1]", f"{output.raw}[-1]", shape, output.ones, axis)


def at_last_step(outputs: Sequence[Output]) -> Iterator[Output]:
    """What outputs in an array, one for each step, end with: targets may be of that alone."""
    for output in outputs:
        if len(output.shape) > 1 and output.shape[0] == STEPS:
            last = at_end(output)
            if last.text not in {other.text for other in outputs}:
                yield last


def _stacked(value: Any, text: str) -> tuple[np.ndarray | None, str]:
    """A value as one array, and the expression for it."""
    array = numbers(value)
    if array is not None:
        return array, text if isinstance(value, np.ndarray) else f"np.array({text})"
    try:
        if isinstance(value, list | tuple) and value:
            found = np.asarray(value, dtype=np.float64)
            return found, f"np.array({text})"
        if isinstance(value, dict) and value:
            steps = sorted(k for k in value if isinstance(k, int) and k >= 0)
            if steps and isinstance(value[steps[0]], np.ndarray):
                expression = f"np.array([{text}[t] for t in sorted({text}) if t >= 0])"
                return np.asarray([value[t] for t in steps], dtype=np.float64), expression
    except (TypeError, ValueError):
        return None, text
    return None, text


def upstreams(
    outputs: list[Output], losses: list[tuple[str, str]], target: bool, count: str = ""
) -> Iterator[tuple[str, str, str, bool]]:
    """Statements of an upstream gradient `d` and of the loss, what is said, whether guessed.

    Args:
        outputs: of the forward pass.
        losses: of the file.
        target: whether there are targets.
        count: an expression for the number of sequences, where a layer may divide by it, so that
            `d` is that of each sequence's own loss.
    """
    for output in outputs:
        text = output.text
        if target:
            for form, loss, said in _differences(output, losses):
                yield form, loss, said, True
        else:
            # Small, so that a clip of the gradient, with which many passes end, is not reached.
            drawn = f"d = 0.1 * np.random.default_rng(1).standard_normal(np.shape({text}))"
            loss = f"{drawn}\nloss = np.sum(d * {text})"
            # Believed only where some tensor is right: `d` may be meant for what comes before a
            # softmax or sigmoid of the output.
            said = f"drawn weights times {output.raw}"
            yield drawn, loss, said, True
            if count:
                yield drawn, f"{loss} / {count}", f"{said}, as a mean over the sequences", True


def hot(output: Output) -> str:
    """Targets in the form of an output, indices as one-hot."""
    shape = f"np.shape({output.text})"
    classes = f"np.eye({output.shape[output.axis]})[np.asarray(y)]"
    if output.axis == -2 and output.shape[-1] > 1:  # sequences side by side
        classes = f"np.swapaxes({classes}, -1, -2)"
    return (
        f"(np.reshape({classes}, {shape})"
        f" if np.size(y) != np.size({output.text}) else np.reshape(y, {shape}))"
    )


def _differences(output: Output, losses: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Upstream gradients of usual losses: prediction minus target, with usual factors."""
    text, aim = output.text, hot(output)
    axis = output.axis
    soft = f"np.exp({text}) / np.sum(np.exp({text}), axis={axis}, keepdims=True)"
    counts = [f"len({text})"] if len(output.shape) > 1 else []
    if len(output.shape) > 2:
        counts += [f"np.shape({text})[1]", f"(np.size({text}) / {output.shape[axis]})"]
    counts.append(f"np.size({text})")
    for what in [text] if output.ones else [text, soft]:
        for factor in ("", "2 * "):
            for count in ("", *counts):
                d = f"{factor}({what} - {aim})" + (f" / {count}" if count else "")
                for loss, said in losses:
                    yield f"d = {d}", loss, said
                if not losses:
                    yield from _with_implicit(f"d = {d}", output, factor, count, what is soft)


def _with_implicit(
    d: str, output: Output, factor: str, count: str, soft: bool
) -> Iterator[tuple[str, str, str]]:
    divided = f" / {count}" if count else ""
    if output.ones or soft:
        if not factor:
            yield d, f"loss = {_entropy(output)}{divided}", f"cross-entropy of {output.raw}"
    else:
        half = "" if factor else "0.5 * "
        square = f"np.sum(({output.text} - {hot(output)}) ** 2)"
        yield d, f"loss = {half}{square}{divided}", f"squared error of {output.raw}"


def _axis(array: np.ndarray) -> int:
    """The axis of the outputs: the last, or the last but one where that is of size 1.

    The last but one, too, where entries sum to 1 along it alone: sequences stand side by side.
    """
    if array.ndim < 2:
        return -1
    if array.shape[-1] == 1:
        return -2
    aside = np.allclose(array.sum(-2), 1) and not np.allclose(array.sum(-1), 1)
    return -2 if aside and array.shape[-2] > 1 else -1


def _entropy(output: Output) -> str:
    text, axis = output.text, output.axis
    if output.ones:
        return f"-np.sum({hot(output)} * np.log({text}))"
    total = f"np.log(np.sum(np.exp({text}), axis={axis}, keepdims=True))"
    return f"-np.sum({hot(output)} * ({text} - {total}))"


def implicit(output: Output) -> Iterator[tuple[str, str, bool]]:
    """Usual losses of an output, for a backward pass that takes targets where no loss is there."""
    aim, text = hot(output), output.text
    counts = [f"len({text})", f"(np.size({text}) / {output.shape[output.axis]})"]
    for divided in ("", *(f" / {count}" for count in counts)):
        yield f"loss = {_entropy(output)}{divided}", f"cross-entropy of {output.raw}", True
    square = f"np.sum(({text} - {aim}) ** 2)"
    for divided in (" / 2", "", *(f" / {c}" for c in (*counts, f"np.size({text})"))):
        yield f"loss = {square}{divided}", f"squared error of {output.raw}", True


def scalar(value: Any, names: Sequence[str], text: str) -> str:
    """The expression of the loss in what a function gave, "" where there is none."""
    if is_scalar(value):
        return text
    if isinstance(value, tuple | list) and value and len(value) < 40:
        if len(names) == len(value):
            for n, name in enumerate(names):
                lossy = any(w in name.lower() for w in ("loss", "cost", "err", "energy"))
                lossy = lossy or name in ("L", "J", "E")
                if lossy and _few(value[n]):
                    return f"{text}[{n}]"
        for n in (0, len(value) - 1):
            if is_scalar(value[n]) and (not names or len(names) != len(value) or n == 0):
                return f"{text}[{n}]"
    if isinstance(value, dict):
        for name, part in value.items():
            lossy = isinstance(name, str) and ("loss" in name.lower() or "cost" in name.lower())
            if lossy and is_scalar(part):
                return f"{text}[{name!r}]"
    if _few(value) and text == "loss":
        return text
    return ""


def _as_number(value: Any) -> Any:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return np.empty(0)


def is_finite(value: Any) -> bool:
    """Whether a value is made of finite numbers alone; one that is none, as a list of lists of
    several lengths, is not."""
    found = _as_number(value)
    return bool(found.size and np.isfinite(found).all())


def is_terms(value: Any) -> bool:
    """Whether a value is an array of a loss's terms, one for each step."""
    found = _as_number(value)
    return bool(found.ndim and found.shape[0] == STEPS == found.size and found.any())


def _few(value: Any) -> bool:
    """Whether a value is the terms of a loss: one for each step and sequence at most."""
    found = _as_number(value)
    return bool(0 < found.size <= STEPS * BATCH and found.ndim <= 3)


def is_scalar(value: Any) -> bool:
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return False
    found = _as_number(value)
    return bool(found.size == 1)


def value_of(bench: Bench, text: str) -> Any:
    try:
        return bench.value(text)
    except CheckError:
        return None
