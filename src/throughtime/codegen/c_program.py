"""A network as one file of C99: a step at a time, backward through a window, and updates.

Nothing is allocated and nothing but math.h is needed. States, what a window keeps, gradients and
moments are structures and arrays of the caller's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from throughtime.arrays import Array, Shape
from throughtime.codegen.c_layers import CellInC, LayerInC, words_of
from throughtime.codegen.c_texts import CHECK, LOSSES, ONE_HOT, UPDATES, WEIGHTS
from throughtime.equations import Dialect, helpers


@dataclass(frozen=True)
class LossInC:
    """A loss: its kind, as `network.losses` names it, and whether steps are averaged."""

    kind: str
    mean: bool


@dataclass
class ProgramInC:
    """All that a file holds.

    Attributes:
        name: with which everything in it begins.
        about: what it is, for the comment at the top.
        layers: from the inputs to the outputs.
        shapes: of the parameters, in their order in the flat vector.
        dialect: in which precision.
        steps: the longest window, unless NAME_STEPS is defined before.
        loss: None where the caller has one.
        weights: the parameters; None where the file is to hold none.
    """

    name: str
    about: str
    layers: Sequence[LayerInC]
    shapes: Mapping[str, Shape]
    dialect: Dialect
    steps: int
    loss: LossInC | None = None
    weights: Array | None = None

    def text(self) -> str:
        """The file."""
        inner = self._inner()
        own = helpers("\n".join(inner), self.dialect)
        parts = [self._head(), *own, *inner]
        return "\n\n".join(part.rstrip() for part in parts if part) + "\n"

    # --- its parts ---

    def _named(self, text: str, **more: object) -> str:
        """A text of `c_texts`, in which NAME, REAL and the like are filled in."""
        single = self.dialect.suffix == "f"
        known = {
            "NAME": self.name.upper(),
            "name": self.name,
            "real": self.dialect.real,
            "f": self.dialect.suffix,
            "bytes": 4 if single else 8,
            "bits": "uint32_t" if single else "uint64_t",
        }
        for word, value in (known | more).items():
            text = text.replace(f"@{word}@", str(value))
        return text

    def _head(self) -> str:
        size = sum(int(np.prod(shape)) for shape in self.shapes.values())
        at, rows = 0, []
        for name, shape in self.shapes.items():
            rows.append(f" *     {name:10} {words_of(shape):>12}   from {at}")
            at += int(np.prod(shape))
        states = {n: k for layer in self.layers for n, k in layer.states().items()}
        kept = {n: k for layer in self.layers for n, k in layer.kept().items()}
        between = {
            f"{layer.name}_y": layer.outputs
            for layer in self.layers[:-1]
            if not isinstance(layer, CellInC)
        }
        real = self.dialect.real
        fields = [f"    {real} {n}[{k}];" for n, k in states.items()]
        inner = [f"    {real} {n}[{k}];" for n, k in {**kept, **between}.items()]
        nothing = [f"    {real} nothing;"]
        return self._named(
            "\n".join(
                [
                    f"/* {self.about}",
                    " *",
                    " * Parameters, in C order, in one vector of @NAME@_PARAMETERS numbers:",
                    *rows,
                    " *",
                    " * Nothing is allocated; window and gradients are the caller's. Compile with",
                    " * -std=c99 and link with -lm. */",
                    "#include <math.h>",
                    "#include <stddef.h>",
                    "#include <stdint.h>",
                    "#include <string.h>",
                    "",
                    f"#define @NAME@_INPUTS {self.layers[0].inputs}",
                    f"#define @NAME@_OUTPUTS {self.layers[-1].outputs}",
                    f"#define @NAME@_PARAMETERS {size}",
                    "#ifndef @NAME@_STEPS",
                    f"#define @NAME@_STEPS {self.steps}  /* of the longest window */",
                    "#endif",
                    "",
                    "/* What is carried from step to step, or δ of it. */",
                    "typedef struct {",
                    *(fields or nothing),
                    "} @name@_state;",
                    "",
                    "/* What a step keeps for its backward pass. */",
                    "typedef struct {",
                    *(inner or nothing),
                    "} @name@_kept;",
                    "",
                    "/* A window: states[t] is the one before step t. */",
                    "typedef struct {",
                    "    int steps;",
                    f"    {real} inputs[@NAME@_STEPS][@NAME@_INPUTS];",
                    "    @name@_state states[@NAME@_STEPS + 1];",
                    "    @name@_kept kept[@NAME@_STEPS];",
                    "} @name@_window;",
                ]
            )
        )

    def _inner(self) -> list[str]:
        parts = [code for layer in self.layers for code in layer.functions()]
        parts += [self._forward(), self._streaming(), self._backward(), self._window()]
        if self.loss is not None:
            parts.append(self._named(LOSSES[self.loss.kind], share=self._share()))
        parts += [self._named(ONE_HOT), self._named(UPDATES)]
        if self.weights is not None:
            numbers = [_number(value, self.dialect) for value in self.weights.ravel()]
            rows = [", ".join(numbers[k : k + 6]) for k in range(0, len(numbers), 6)]
            parts.append(
                self._named(
                    f"const {self.dialect.real} @name@_weights[@NAME@_PARAMETERS] = {{\n    "
                    + ",\n    ".join(rows)
                    + "\n};"
                )
            )
        parts.append(self._named(WEIGHTS))
        if self.loss is not None:
            parts.append(self._check())
        return parts

    def _share(self) -> str:
        assert self.loss is not None
        return "1.0 / steps" if self.loss.mean else "1.0"

    def _between(self) -> list[str]:
        """What is the input of each layer, and the output of the last one, as C expressions."""
        words = ["x"]
        for layer in self.layers[:-1]:
            of_cell = f"after->{layer.output}" if isinstance(layer, CellInC) else ""
            words.append(of_cell or f"kept->{layer.name}_y")
        return [*words, "y"]

    def _forward(self) -> str:
        words, lines = self._between(), []
        for k, layer in enumerate(self.layers):
            lines += layer.forward(words[k], words[k + 1])
        last = self.layers[-1]
        if isinstance(last, CellInC):
            lines.append(f"memcpy(y, after->{last.output}, {last.outputs} * sizeof *y);")
        return self._named(
            "\n".join(
                [
                    "/* One step: the state after it, the output y, and what it keeps. */",
                    "static void @name@_one_step(const @real@ *parameters,",
                    "        const @name@_state *before, @name@_state *after, @name@_kept *kept,",
                    "        const @real@ *x, @real@ *y) {",
                    *_indices(lines),
                    *_unused(lines, ("parameters", "before", "after", "kept")),
                    *(f"    {line}" for line in lines),
                    "}",
                ]
            )
        )

    def _streaming(self) -> str:
        real = self.dialect.real
        return self._named(
            f"""\
/* Puts the state back to the beginning of a sequence. */
void @name@_reset(@name@_state *state) {{ memset(state, 0, sizeof *state); }}

/* One step of a stream: x (@NAME@_INPUTS) in, y (@NAME@_OUTPUTS) out; the state moves on. */
void @name@_step(const {real} *parameters, @name@_state *state, const {real} *x, {real} *y) {{
    @name@_state after;
    @name@_kept kept;
    @name@_one_step(parameters, state, &after, &kept, x, y);
    *state = after;
}}"""
        )

    def _backward(self) -> str:
        words = self._between()
        lines: list[str] = []
        real = self.dialect.real
        arrays: list[str] = []
        dy = "dy"
        for k in reversed(range(len(self.layers))):
            layer = self.layers[k]
            dx = f"d{layer.name}_x" if k else "dx"
            arrays += [f"    {real} {dx}[{layer.inputs}];"] * bool(k)
            lines += layer.backward(words[k], dy, dx)
            dy = dx
        first = self.layers[0]
        if isinstance(first, CellInC) and not first.step.dinputs:
            lines.append("for (i = 0; i < @NAME@_INPUTS; i++) dx[i] = 0;")
        names = ("parameters", "before", "after", "kept", "later", "earlier", "x")
        return self._named(
            "\n".join(
                [
                    "/* One step backward: from δ of its output and of the state after it to δ of",
                    " * its input and of the state before it. The gradient is added to; `later` is",
                    " * changed. */",
                    f"static void @name@_one_step_backward(const {real} *parameters,",
                    "        const @name@_state *before, const @name@_state *after,",
                    f"        const @name@_kept *kept, const {real} *x, const {real} *dy,",
                    "        @name@_state *later, @name@_state *earlier, @real@ *gradient,",
                    "        @real@ *dx) {",
                    *arrays,
                    *_indices(lines),
                    *_unused(lines, names),
                    *(f"    {line}" for line in lines),
                    "}",
                ]
            )
        )

    def _window(self) -> str:
        real = self.dialect.real
        return self._named(
            f"""\
/* Runs a window of steps, at most @NAME@_STEPS, from a state, which moves on: inputs (steps,
 * @NAME@_INPUTS), outputs (steps, @NAME@_OUTPUTS). Returns 0, or 1 if there are too many steps. */
int @name@_forward(const {real} *parameters, @name@_state *state, const {real} *inputs, int steps,
        {real} *outputs, @name@_window *window) {{
    int t;
    if (steps < 1 || steps > @NAME@_STEPS) return 1;
    window->steps = steps;
    window->states[0] = *state;
    memcpy(window->inputs, inputs, (size_t)steps * sizeof window->inputs[0]);
    for (t = 0; t < steps; t++)
        @name@_one_step(parameters, &window->states[t], &window->states[t + 1], &window->kept[t],
                window->inputs[t], outputs + (size_t)t * @NAME@_OUTPUTS);
    *state = window->states[steps];
    return 0;
}}

/* Backward through a window: doutputs (steps, @NAME@_OUTPUTS) is δ of its outputs, and dstate δ of
 * the state after it on entry and of the state before it on return. `gradient`
 * (@NAME@_PARAMETERS) is added to; dinputs (steps, @NAME@_INPUTS) may be NULL. */
void @name@_backward(const {real} *parameters, const @name@_window *window, const {real} *doutputs,
        @name@_state *dstate, {real} *gradient, {real} *dinputs) {{
    @name@_state earlier;
    {real} dx[@NAME@_INPUTS];
    int t;
    memset(&earlier, 0, sizeof earlier);
    for (t = window->steps - 1; t >= 0; t--) {{
        @name@_one_step_backward(parameters, &window->states[t], &window->states[t + 1],
                &window->kept[t], window->inputs[t], doutputs + (size_t)t * @NAME@_OUTPUTS, dstate,
                &earlier, gradient, dx);
        *dstate = earlier;
        if (dinputs) memcpy(dinputs + (size_t)t * @NAME@_INPUTS, dx, sizeof dx);
    }}
}}"""
        )

    def _check(self) -> str:
        described = json.dumps(
            {
                "names": list(self.shapes),
                "shapes": [list(shape) for shape in self.shapes.values()],
                "dtype": "float32" if self.dialect.suffix else "float64",
                "steps": min(self.steps, 6),
            }
        )
        assert self.loss is not None
        target = {
            "MeanSquaredError": "targets[n] = @name@_drawn(&seed)",
            "BinaryCrossEntropy": "targets[n] = @name@_drawn(&seed) > 0 ? 1 : 0",
            "SoftmaxCrossEntropy": "targets[n] = n % K == n / K % K".replace("K", "@NAME@_OUTPUTS"),
        }[self.loss.kind]
        initial = "" if self.weights is None else CHECK["initial"]
        return self._named(
            CHECK["text"],
            described=json.dumps(described),
            steps=min(self.steps, 6),
            target=self._named(target),
            initial=self._named(initial),
        )


def _indices(lines: Sequence[str]) -> list[str]:
    """The declarations of the indices that statements use."""
    text = "\n".join(lines)
    used = [i for i in "ij" if re.search(rf"\bfor \({i} = ", text)]
    return [f"    int {', '.join(used)};"] if used else []


def _unused(lines: Sequence[str], names: Sequence[str]) -> list[str]:
    words = set(re.findall(r"\w+", "\n".join(lines)))
    return [f"    (void){name};" for name in names if name not in words]


def _number(value: float, dialect: Dialect) -> str:
    """A parameter as C reads it, to the bit."""
    word = f"{float(value):.9g}" if dialect.suffix else repr(float(value))
    if not re.search(r"[.e]", word):
        word += ".0"
    return word + dialect.suffix
