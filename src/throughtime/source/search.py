"""The search for a reading of a candidate: data, model, forward pass, loss, backward pass."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from throughtime.gradcheck import CheckError
from throughtime.source.bench import Bench
from throughtime.source.calls import UNKNOWN, Call, Pool, calls, is_size, sized
from throughtime.source.candidates import (
    Candidate,
    Function,
    arguments,
    methods,
    returned,
    returned_name,
)
from throughtime.source.meanings import (
    BATCH,
    FORMS,
    HIDDEN,
    INITIALISE,
    INPUTS,
    LONGEST,
    OUTPUTS,
    STEPS,
    VALUES,
    Form,
    role,
    size_kind,
)
from throughtime.source.pairing import numbers
from throughtime.source.readings import Judged, Reading, cut, judged
from throughtime.source.slices import Slices

MOST_TRIES = 2_500  # runs of the user's code for one candidate
ENOUGH_MODELS = 2  # ways to make a model that are gone on with
ENOUGH_FORWARDS = 2  # calls of the forward pass that are gone on with, for one form of the data
STATES = (
    f"({HIDDEN}, 1)",
    f"({BATCH}, {HIDDEN})",
    f"({HIDDEN},)",
    f"(1, {HIDDEN})",
    f"({HIDDEN}, {BATCH})",
    f"(2, {BATCH}, {HIDDEN})",
    f"({INPUTS}, 1)",
    f"({INPUTS},)",
)
AFTER = "# after the backward pass\n"
IMPORT = "import numpy as np\ndraw = np.random.default_rng(0)"


@dataclass(frozen=True)
class Output:
    """What of a forward pass's result the loss is made of.

    Args:
        text: an expression of an array.
        raw: the expression of what it is in the user's code.
        shape: of the array.
        ones: whether its entries over the outputs sum to 1.
    """

    text: str
    raw: str
    shape: tuple[int, ...]
    ones: bool


class Search:
    """All readings of one candidate.

    Args:
        bench: the user's file.
        slices: its statements.
        candidate: what is read.
        setup: statements that make the model as `net`, where the user gives them.
    """

    def __init__(self, bench: Bench, slices: Slices, candidate: Candidate, setup: str = "") -> None:
        self.bench, self.slices, self.candidate, self.given_setup = bench, slices, candidate, setup
        self.failures: list[str] = []
        self._first = bench.tries
        self._order = 0.0
        self.method = candidate.owner is not None
        self.prefix = "net." if self.method else ""
        used: list[Function] = [candidate.backward, *(f for _, f in candidate.losses)]
        if candidate.forward is not None:
            used.append(candidate.forward)
        self.used = used
        names = [f.name for f in used] if not self.method else []
        names += [candidate.owner.name] if candidate.owner else []
        names += [f.name for _, f in candidate.losses]
        self.globals = sorted(slices.globals_of(names))

    def best(self) -> Judged | None:
        """The likeliest reading; None where nothing runs."""
        best: Judged | None = None
        for reading in self._readings():
            found = judged(self.bench, reading)
            if found is None or not found.moves:
                continue
            if best is None or found.rank > best.rank:
                best = found
            if len(found.right) == len(found.moves) and len(found.right) > 1:
                break
        return best

    def _readings(self) -> Iterator[Reading]:
        for setup, roots in self._models():
            for form in self._forms():
                if self.bench.tries - self._first > MOST_TRIES:
                    return
                yield from self._with_data(setup, roots, form)

    def _forms(self) -> Sequence[Form]:
        return FORMS

    # The model.

    def _models(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Statements that make the model, and the expressions under which its arrays are."""
        constants = self._constants(self.globals)
        arrays = tuple(n for n in self.globals)
        if not self.method:
            yield from self._functions(constants, arrays)
            return
        if self.given_setup:
            yield f"{constants}\n{self.given_setup}", ("net", *arrays)
            return
        assert self.candidate.owner is not None
        enough = 0
        for call in self._constructors(self.candidate.owner.name):
            text = f"{constants}\nnet = {call}"
            if self._runs(f"{IMPORT}\nT = {STEPS}\n{text}"):
                enough += 1
                yield text, ("net", *arrays)
                if enough >= ENOUGH_MODELS:
                    return

    def _constants(self, names: Iterable[str]) -> str:
        """The file's statements that set these names; those that fail are left out."""
        kept: list[str] = []
        self._runs(f"{IMPORT}\nT = {STEPS}")
        for node in ast.parse(self.slices.text(names)).body:
            text = ast.unparse(node)
            try:
                self.bench.go_on(text)
                kept.append(text)
            except CheckError as problem:
                self.failures.append(str(problem))
        return "\n".join(kept)

    def _functions(
        self, constants: str, arrays: tuple[str, ...]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """For functions: their constants, and parameters made by a function of the file."""
        takes = [
            name
            for function in self.used
            for name in arguments(function, method=False)[0]
            if role(name) == "parameters"
        ]
        if takes:
            for name, node in self.slices.definitions.items():
                if isinstance(node, ast.FunctionDef) and INITIALISE.match(name):
                    if node in self.used or not returned(node):
                        continue
                    constants_too = self._constants(
                        set(self.globals) | self.slices.globals_of([name])
                    )
                    for given in sized(node, method=False, most=6):
                        text = f"{constants_too}\nparams = {name}({given})"
                        if self._runs(f"{IMPORT}\nT = {STEPS}\n{text}"):
                            yield text, ("params", *arrays)
                            break
            if described := _described(self.used):
                yield f"{constants}\nparams = {described}", ("params", *arrays)
        yield constants, arrays

    def _constructors(self, name: str, depth: int = 0) -> list[str]:
        """Calls that make an object of a class of the file."""
        node = self.slices.definitions[name]
        assert isinstance(node, ast.ClassDef)
        classes = {n: d for n, d in self.slices.definitions.items() if isinstance(d, ast.ClassDef)}
        make = methods(node, classes).get("__init__")
        if make is None:
            return [f"{name}()"]
        needed, given = arguments(make, method=True)
        small = [n for n, default in given.items() if is_size(n, default)]
        choices: list[list[str]] = []
        for argument in [*needed, *small]:
            values = list(VALUES.get(size_kind(argument), UNKNOWN))
            if argument in small:
                values = values[:1]
            inner = _class_named(argument, classes, name)
            if inner and depth < 2:
                values = [*self._constructors(inner, depth + 1)[:2], *values]
            choices.append(values)
        found = []
        for chosen in _combinations(choices, 12):
            words = [
                value if n < len(needed) else f"{argument}={value}"
                for n, (argument, value) in enumerate(zip([*needed, *small], chosen, strict=True))
            ]
            found.append(f"{name}({', '.join(words)})")
        return found

    def _runs(self, text: str) -> bool:
        try:
            self.bench.run(text)
        except CheckError as problem:
            self.failures.append(str(problem))
            return False
        return True

    # The forward pass.

    def _with_data(self, setup: str, roots: tuple[str, ...], form: Form) -> Iterator[Reading]:
        stateful = any(
            role(name) == "state"
            for function in (self.candidate.forward, self.candidate.backward)
            if function is not None
            for name in arguments(function, method=self.method)[0]
        )
        for shape in STATES if stateful else ("",):
            data = f"{IMPORT}\nx = {form.text}"
            states = (
                f"states = [0.3 * draw.standard_normal({shape}) for _ in range(2)]" if shape else ""
            )
            steps = (("x", form.time),)
            length = f"T = np.shape(x)[{form.time}]" if form.time else "T = len(x)"
            reading = Reading(
                data,
                "\n".join(filter(None, (length, states, setup))),
                "",
                "",
                "",
                roots,
                steps=steps,
                sequences=(("x", form.batch),) if form.batch is not None else (),
                said=(f"steps from x {form.said}, axis {form.time}",),
            )
            yield from self._forwards(reading, form)

    def _forwards(self, reading: Reading, form: Form) -> Iterator[Reading]:
        forward = self.candidate.forward
        if forward is None:
            yield from self._backwards(reading, form, None, [])
            return
        pool = self._pool(reading)
        takes_target = any(role(n) == "target" for n in arguments(forward, method=self.method)[0])
        wanted = targets(form, None) if takes_target else [("", None)]
        for target, axis in wanted:
            with_target = _with_target(reading, target, axis)
            pool.roles["target"] = ["y"] if target else []
            enough = 0
            for call in calls(forward, self.prefix, pool, method=self.method, most=12):
                text = f"out = {call.text}"
                if not self._runs(f"{with_target.begin}\n{text}"):
                    continue
                enough += 1
                out = self.bench.space.get("out")
                outputs = list(_outputs(out, returned(forward), self.bench))
                ready = replace(with_target, run=text)
                yield from self._backwards(ready, form, call, outputs, takes_target)
                if enough >= ENOUGH_FORWARDS:
                    break

    def _pool(self, reading: Reading) -> Pool:
        named = {"T": "T"}
        roles = {"inputs": ["x"]}
        if "params" in reading.roots:
            roles["parameters"] = ["params"]
            named["params"] = "params"
        return Pool(named, roles)

    # The loss and the backward pass.

    def _backwards(
        self,
        reading: Reading,
        form: Form,
        forward: Call | None,
        outputs: list[Output],
        has_target: bool = False,
    ) -> Iterator[Reading]:
        backward = self.candidate.backward
        pool = self._results(reading, forward, outputs)

        def takes(kind: str, function: Function) -> bool:
            needed, given = arguments(function, method=self.method)
            names = [*needed, *(n for n in given if kind == "target")]
            return any(pool.role(n) == kind for n in names if n not in pool.named)

        upstream = takes("upstream", backward)
        target = any(takes("target", f) for _, f in self.candidate.losses)
        target = target or takes("target", backward)
        wanted: list[tuple[str, int | None]] = [("", None)]
        if not has_target and (target or (upstream and self.candidate.losses)):
            first = outputs[0] if outputs else None
            wanted = [*([("", None)] if upstream else []), *targets(form, first)]
        for text, axis in wanted:
            ready = _with_target(reading, text, axis) if text else reading
            given = bool(text) or has_target
            pool.roles["target"] = ["y"] if given else []
            yield from self._with_target(ready, pool, outputs, given, upstream)

    def _results(self, reading: Reading, forward: Call | None, outputs: list[Output]) -> Pool:
        """What the backward pass and the losses can be given."""
        pool = self._pool(reading)
        if forward is None or self.candidate.forward is None:
            return pool
        names = returned(self.candidate.forward)
        elements = _elements(self.bench.space.get("out"), names)
        pool.named |= dict(forward.given)
        pool.named |= {_bare(n): t for n, t in elements if n}
        pool.named |= {n: t for n, t in elements if n}
        if whole := returned_name(self.candidate.forward):
            pool.named[whole] = "out"
        pool.named |= self._at_call_sites(elements, pool)
        pool.roles["prediction"] = [o.raw for o in outputs]
        caches = [t for n, t in elements if role(n) == "cache"]
        pool.roles["cache"] = caches or ["out", *(t for _, t in reversed(elements))]
        return pool

    def _with_target(
        self,
        reading: Reading,
        pool: Pool,
        outputs: list[Output],
        target: bool,
        takes_upstream: bool,
    ) -> Iterator[Reading]:
        backward = self.candidate.backward
        losses = list(self._losses(reading, pool)) if target else []
        upstreams: list[tuple[str, str, str, bool]] = [("", "", "", False)]
        if takes_upstream:
            upstreams = list(_upstreams(outputs, losses, target))
        for up, loss, said, needs in upstreams:
            if up:
                pool.roles["upstream"] = ["d"]
            for call in calls(backward, self.prefix, pool, method=self.method, most=12):
                run = f"{up}\nback = {call.text}".strip()
                for loss_text, loss_said, guessed in self._loss_texts(
                    loss, losses, takes_upstream, reading, run, outputs, target
                ):
                    self._order += 1
                    yield replace(
                        reading,
                        loss=loss_text,
                        gradient=run,
                        back_names=tuple(returned(backward)),
                        said=(
                            *reading.said,
                            f"loss: {said or loss_said}",
                            f"gradient: {call.text}",
                        ),
                        needs_agreement=needs or guessed,
                        order=self._order,
                    )

    def _at_call_sites(self, elements: list[tuple[str, str]], pool: Pool) -> dict[str, str]:
        """Arguments of the backward pass and the losses that are given results of the forward one.

        That is so where the file's own calls of them name what its call of the forward pass gave.
        """
        found: dict[str, str] = {}
        forward = self.candidate.forward
        assert forward is not None
        given: dict[str, str] = {}
        for names in self.slices.results_of(forward.name):
            if len(names) == len(elements):
                given |= {n: t for n, (_, t) in zip(names, elements, strict=True) if n}
            elif len(names) == 1:
                given[names[0]] = "out"
        for function in self.used:
            needed, optional = arguments(function, method=self.method)
            every = [*needed, *optional]
            for call in self.slices.calls_of(function.name):
                words = dict(zip(every, call.args, strict=False))
                words |= {k.arg: k.value for k in call.keywords if k.arg}
                for name, value in words.items():
                    if isinstance(value, ast.Name) and value.id in given:
                        found[name] = given[value.id]
                    elif isinstance(value, ast.Name):
                        pool.aliases[name] = value.id
        return found

    def _loss_texts(
        self,
        loss: str,
        losses: list[tuple[str, str]],
        takes_upstream: bool,
        reading: Reading,
        run: str,
        outputs: list[Output],
        target: bool,
    ) -> Iterator[tuple[str, str, bool]]:
        """Statements that leave the loss, what a reader is told, and whether it is a guess."""
        if takes_upstream:
            yield loss, "", False
            return
        try:
            self.bench.run(f"{reading.begin}\n{reading.run}\n{run}")
        except CheckError as problem:
            self.failures.append(str(problem))
            return
        back = self.bench.space.get("back")
        own = _scalar(back, returned(self.candidate.backward), "back")
        if own:
            yield f"{run}\nloss = {own}", f"{own} of {self.candidate.backward.name}", False
        if self.candidate.forward is not None:
            out = self.bench.space.get("out")
            if found := _scalar(out, returned(self.candidate.forward), "out"):
                yield f"loss = {found}", f"{found} of {self.candidate.forward.name}", False
        for text, said in losses:
            yield text.replace(AFTER, f"{run}\n"), said, False
        for attribute in ("loss", "_loss", "cost", "total_loss", "error", "E"):
            if self.method and _is_scalar(_value(self.bench, f"net.{attribute}")):
                yield f"{run}\nloss = net.{attribute}", f"net.{attribute}", False
        if not losses and not own and target:
            for output in outputs:
                yield from _implicit(output)

    def _losses(self, reading: Reading, pool: Pool) -> Iterator[tuple[str, str]]:
        """Calls of the file's loss functions that give a number."""
        for prefix, function in self.candidate.losses:
            if prefix == "net." and not self.method:
                continue
            found = False
            for wrap in ("{}", "[{}]"):
                for call in calls(function, prefix, pool, method=prefix == "net.", most=8):
                    text = call.text
                    if not call.given:
                        yield f"{AFTER}loss = {text}", text
                        found = True
                        break
                    if wrap != "{}":
                        words = ", ".join(
                            wrap.format(v) if v in ("x", "y") else v for v in call.given.values()
                        )
                        text = f"{prefix}{function.name}({words})"
                    try:
                        self.bench.run(f"{reading.begin}\n{reading.run}\nloss = {text}")
                    except CheckError:
                        continue
                    value = self.bench.space.get("loss")
                    where = _scalar(value, returned(function), "loss")
                    if not where or not np.isfinite(np.sum(_value(self.bench, where))):
                        continue
                    tail = "" if where == "loss" else f"\nloss = {where}"
                    yield f"loss = {text}{tail}", text
                    found = True
                if found:
                    break


def _combinations(choices: Sequence[Sequence[str]], most: int) -> list[tuple[str, ...]]:
    """Combinations, the first values first."""
    import itertools

    numbered = sorted(
        itertools.islice(itertools.product(*(range(len(c)) for c in choices)), 2000), key=sum
    )
    return [tuple(c[n] for c, n in zip(choices, ns, strict=True)) for ns in numbered[:most]]


def _class_named(argument: str, classes: dict[str, Any], own: str) -> str:
    """The class of the file that an argument is named after, "" if none."""
    low = argument.lower().replace("_", "")
    for name in classes:
        if name != own and name.lower().replace("_", "") == low:
            return name
    for name in classes:
        other = name.lower().replace("_", "")
        if name != own and len(other) > 3 and (other in low or low in other) and len(low) > 3:
            return name
    return ""


def _described(functions: Sequence[Function]) -> str:
    """A dictionary of parameters by what docstrings say of their shapes, as courses write them."""
    import re

    line = re.compile(r"^\s*(\w+)\s*--.*?(?:shape|of size)\s*\(([^()]+)\)", re.M)
    sizes = {"n_a": HIDDEN, "n_x": INPUTS, "n_y": OUTPUTS, "m": BATCH, "1": 1, "T_x": STEPS}
    found: dict[str, str] = {}
    for function in functions:
        text = ast.get_docstring(function) or ""
        _, mark, rest = text.partition("parameters --")
        if not mark:
            continue
        inner = rest.partition("Returns")[0]
        for name, shape in line.findall(inner):
            words = [part.strip() for part in shape.split(",")]
            try:
                numbers_ = [eval(word, {"__builtins__": {}}, dict(sizes)) for word in words]
            except Exception:
                continue
            found[name] = f"draw.standard_normal(({', '.join(map(str, numbers_))}))"
    if not found:
        return ""
    return "{" + ", ".join(f"{name!r}: {text}" for name, text in found.items()) + "}"


def _with_target(reading: Reading, target: str, axis: int | None) -> Reading:
    steps = (*reading.steps, ("y", axis)) if axis is not None else reading.steps
    return (
        replace(reading, data=f"{reading.data}\ny = {target}", steps=steps) if target else reading
    )


def _bare(name: str) -> str:
    """A name without the mark of several: `z` for `z_s` and for `zs`."""
    return name.removesuffix("_s").removesuffix("s") or name


def targets(form: Form, output: Output | None) -> list[tuple[str, int | None]]:
    """Expressions of targets, with their axis of time; None where there is one for all steps."""
    T, B, O = LONGEST, BATCH, OUTPUTS  # noqa: E741, N806
    hot = f"np.eye({O})[draw.integers({O}, size={{}})]"
    if form.said == "symbols":
        return [(form.text, 0)]
    if form.batch is None:
        found: list[tuple[str, int | None]] = [
            (f"draw.integers({O}, size={T}).tolist()", 0),
            (hot.format(T), 0),
            (hot.format(T) + "[..., None]", 0),
            (hot.format(T) + "[:, None]", 0),
            (f"draw.integers({O})", None),
            (hot.format("()"), None),
            (hot.format("()") + "[:, None]", None),
            (hot.format("()") + "[None]", None),
            (f"draw.standard_normal(({T}, {O}))", 0),
            (f"draw.standard_normal(({T}, {O}, 1))", 0),
            (f"draw.standard_normal({T})", 0),
            (f"draw.standard_normal(({T}, 1))", 0),
            (f"draw.standard_normal(({T}, {HIDDEN}))", 0),
            (f"draw.standard_normal(({O}, 1))", None),
            ("draw.standard_normal()", None),
        ]
        if form.time == 1:
            found.insert(0, (f"{hot.format(T)}.T", 1))
    else:
        first, last = (T, B) if form.time == 0 else (B, T)
        time = 0 if form.time == 0 else 1
        found = [
            (f"draw.integers({O}, size=({first}, {last}))", time),
            (hot.format(f"({first}, {last})"), time),
            (f"draw.integers({O}, size={B})", None),
            (hot.format(B), None),
            (f"draw.standard_normal(({first}, {last}, {O}))", time),
            (f"draw.standard_normal(({B}, {O}))", None),
            (f"draw.standard_normal(({first}, {last}, 1))", time),
            (f"draw.standard_normal(({B}, 1))", None),
            (f"draw.standard_normal({B})", None),
        ]
        if form.time == 2:
            found = [
                (f"{hot.format(f'({B}, {T})')}.transpose(2, 0, 1)", 2),
                (f"draw.standard_normal(({O}, {B}, {T}))", 2),
                (f"draw.standard_normal(({HIDDEN}, {B}, {T}))", 2),
                (f"{hot.format(B)}.T", None),
            ]
    if output is None:
        return found
    return sorted(found, key=lambda pair: _misfit(pair, output))


def _misfit(target: tuple[str, int | None], output: Output) -> int:
    """0 for targets that fit what the forward pass gives, 1 for others."""
    stepwise = STEPS in output.shape
    return int(stepwise != (target[1] is not None))


def _elements(out: object, names: Sequence[str]) -> list[tuple[str, str]]:
    """Names and expressions of what a call gave."""
    if isinstance(out, tuple) or (isinstance(out, list) and len(names) == len(out) > 1):
        padded = [*names, *[""] * len(out)] if len(names) == len(out) else [""] * len(out)
        return [(padded[n], f"out[{n}]") for n in range(len(out))]
    if isinstance(out, dict) and all(isinstance(key, str) for key in out):
        return [(key, f"out[{key!r}]") for key in out]
    return [(names[0] if len(names) == 1 else "", "out")]


def _outputs(out: object, names: Sequence[str], bench: Bench) -> Iterator[Output]:
    """The arrays in the result of a forward pass that a loss may be made of, likeliest first."""
    elements = _elements(out, names)
    ordered = sorted(elements, key=lambda pair: role(pair[0]) != "prediction")
    shown = 0
    for name, text in ordered:
        value = _value(bench, text)
        if value is None or role(name) == "cache":
            continue
        array, expression = _stacked(value, text)
        if array is None or array.size < 1 or array.ndim < 1 or array.dtype.kind != "f":
            continue
        sums = [
            np.allclose(array.sum(axis), 1)
            for axis in range(array.ndim)
            if array.shape[axis] == OUTPUTS
        ]
        yield Output(expression, text, array.shape, any(sums))
        shown += 1
        if shown == 3:
            return


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


def _upstreams(
    outputs: list[Output], losses: list[tuple[str, str]], target: bool
) -> Iterator[tuple[str, str, str, bool]]:
    """Statements of an upstream gradient `d` and of the loss, what is said, whether guessed."""
    for output in outputs:
        text = output.text
        if target:
            for form, loss, said in _differences(output, losses):
                yield form, loss, said, True
        else:
            # Small, so that a clip of the gradient, as many backward passes end with, is not reached.
            drawn = f"d = 0.1 * np.random.default_rng(1).standard_normal(np.shape({text}))"
            loss = f"{drawn}\nloss = np.sum(d * {text})"
            yield drawn, loss, f"drawn weights times {output.raw}", output.ones


def _hot(output: Output) -> str:
    """Targets in the form of an output, indices as one-hot."""
    shape = f"np.shape({output.text})"
    return (
        f"(np.reshape(np.eye({OUTPUTS})[np.asarray(y)], {shape})"
        f" if np.size(y) != np.size({output.text}) else np.reshape(y, {shape}))"
    )


def _differences(output: Output, losses: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """Upstream gradients of usual losses: prediction minus target, with usual factors."""
    text, hot = output.text, _hot(output)
    axis = _axis(output.shape)
    soft = f"np.exp({text}) / np.sum(np.exp({text}), axis={axis}, keepdims=True)"
    counts = [f"len({text})"] if len(output.shape) > 1 else []
    if len(output.shape) > 2:
        counts += [f"np.shape({text})[1]", f"(np.size({text}) / {output.shape[axis]})"]
    counts.append(f"np.size({text})")
    for what in [text] if output.ones else [text, soft]:
        for factor in ("", "2 * "):
            for count in ("", *counts):
                d = f"{factor}({what} - {hot})" + (f" / {count}" if count else "")
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
        square = f"np.sum(({output.text} - {_hot(output)}) ** 2)"
        yield d, f"loss = {half}{square}{divided}", f"squared error of {output.raw}"


def _axis(shape: tuple[int, ...]) -> int:
    """The axis of the outputs: the last one of their number, else the last."""
    for axis in reversed(range(len(shape))):
        if shape[axis] == OUTPUTS:
            return axis - len(shape)
    return -1


def _entropy(output: Output) -> str:
    text, axis = output.text, _axis(output.shape)
    if output.ones:
        return f"-np.sum({_hot(output)} * np.log({text}))"
    total = f"np.log(np.sum(np.exp({text}), axis={axis}, keepdims=True))"
    return f"-np.sum({_hot(output)} * ({text} - {total}))"


def _implicit(output: Output) -> Iterator[tuple[str, str, bool]]:
    """Usual losses of an output, for a backward pass that takes targets where no loss is there."""
    hot, text = _hot(output), output.text
    counts = [f"len({text})", f"(np.size({text}) / {output.shape[_axis(output.shape)]})"]
    for divided in ("", *(f" / {count}" for count in counts)):
        yield f"loss = {_entropy(output)}{divided}", f"cross-entropy of {output.raw}", True
    square = f"np.sum(({text} - {hot}) ** 2)"
    for divided in (" / 2", "", *(f" / {c}" for c in (*counts, f"np.size({text})"))):
        yield f"loss = {square}{divided}", f"squared error of {output.raw}", True


def _scalar(value: Any, names: Sequence[str], text: str) -> str:
    """The expression of the loss in what a function gave, "" where there is none."""
    if _is_scalar(value):
        return text
    if isinstance(value, tuple | list) and value and len(value) < 40:
        if len(names) == len(value):
            for n, name in enumerate(names):
                if any(w in name.lower() for w in ("loss", "cost", "err", "energy")):
                    if np.size(_as_number(value[n])) and _few(value[n]):
                        return f"{text}[{n}]"
        for n in (0, len(value) - 1):
            if _is_scalar(value[n]) and (not names or len(names) != len(value) or n == 0):
                return f"{text}[{n}]"
    if isinstance(value, dict):
        for name, part in value.items():
            if isinstance(name, str) and ("loss" in name.lower() or "cost" in name.lower()):
                if _is_scalar(part):
                    return f"{text}[{name!r}]"
    if _few(value) and text == "loss":
        return text
    return ""


def _as_number(value: Any) -> Any:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return np.empty(0)


def _few(value: Any) -> bool:
    """Whether a value is the terms of a loss: one for each step and sequence at most."""
    found = _as_number(value)
    return bool(0 < found.size <= STEPS * BATCH and found.ndim <= 3)


def _is_scalar(value: Any) -> bool:
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return False
    found = _as_number(value)
    return bool(found.size == 1)


def _value(bench: Bench, text: str) -> Any:
    try:
        return bench.value(text)
    except CheckError:
        return None


__all__ = ["Search", "cut"]
