"""The search for a reading of a candidate: data, model, forward pass, loss, backward pass."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from throughtime.gradcheck import CheckError
from throughtime.source.finding.alike import Alike
from throughtime.source.finding.at_rest import from_rest
from throughtime.source.finding.call_sites import CallSites
from throughtime.source.finding.calls import Call, Pool, calls
from throughtime.source.finding.candidates import (
    Function,
    arguments,
    is_single,
    is_step,
    returned,
    returned_name,
)
from throughtime.source.finding.forms import (
    Form,
    forms,
    named_first,
    single_forms,
    states,
    targets,
)
from throughtime.source.finding.losses import (
    Output,
    at_last_step,
    elements_of,
    hot,
    implicit,
    is_filled,
    is_finite,
    is_scalar,
    is_terms,
    outputs_of,
    scalar,
    upstreams,
    value_of,
)
from throughtime.source.finding.models import TENSORS
from throughtime.source.finding.rates import reached
from throughtime.source.finding.reading import STATE, Reading
from throughtime.source.finding.readings import Judged, likeliest
from throughtime.source.finding.training_steps import LOSS_NAME
from throughtime.source.finding.updates import moved_by, without_optimisers
from throughtime.source.meanings import BATCH, STEPS, VALUES, role, size_kind
from throughtime.source.slices import names_set

MOST_TRIES = 2_500  # runs of the user's code for one candidate
FEWER_TRIES = 500  # of functions that are made with one output, once they were tried with several
MOST_IN_A_FORM = 4_000  # after which a form of the data that was begun before is left, too
LONGEST_LETTER = 2  # characters of a name that says little, as `y` and `ys`, unlike `y_true`
DEEPEST_RETURN = 3  # functions that return what the next one does
ENOUGH_FORWARDS = 2  # calls of the forward pass that are gone on with, for one form of the data
FEWEST_PASSED_ON = 2  # names that a forward pass returns and a backward pass takes
DESIRED = {"d", "t", "des"}  # short names of targets, beside which `y` is the output
MOST_KEPT = 3  # attributes that may be the output of a forward pass which returns nothing
FORMS_OF_UPSTREAM = ("list(d[..., None])", "d[..., None]", "list(d)", "d[None]", "d.T")
AFTER = "# after the backward pass\n"


class ReadingSearch(CallSites):
    """All readings of one candidate, which `Models` takes."""

    def best(self) -> Judged | None:
        """The likeliest reading; None where nothing runs."""
        with self.bench.files.entered():  # once for all tries
            return self._best()

    def _best(self) -> Judged | None:
        found = likeliest(self.bench, self._readings())
        if found is None or not found.believed:
            found = self._without_optimisers(found)
        if found is None or not (found.believed and found.confirmed):
            found = self._with_one_output(found)
        return found if found is None else from_rest(self.bench, found)

    def _without_optimisers(self, found: Judged | None) -> Judged | None:
        """The likeliest reading in which what moves the parameters by itself is left out."""
        reached_ = reached([self.candidate.backward], self.functions)
        if not self.method or not without_optimisers(reached_, self.own):
            return found
        self.still, self._first = True, self.bench.tries
        other = likeliest(self.bench, self._readings())
        self.still = False
        return other if other is not None and other.believed else found

    def _with_one_output(self, found: Judged | None) -> Judged | None:
        """The likeliest reading of a network that is made with one output, as some have to be."""
        if self.given_setup or not (self.method or self._has_outputs()):
            return found
        for self.narrow in (False, True):  # one input, too, as of a series of numbers
            self.single = True
            self._first = self.bench.tries - (0 if self.method else MOST_TRIES - FEWER_TRIES)
            other = likeliest(self.bench, self._readings())
            self.single = False
            if other is not None and other.believed:
                break
        self.narrow = False
        if other is None or not other.believed:
            return found
        # What is believed for its loss alone gives way to what some tensor is right of.
        return other if found is None or not found.believed or other.confirmed else found

    def _has_outputs(self) -> bool:
        """Whether functions are made for a number of outputs that is set outside of them."""
        sizes = self.slices.closure(self.globals)
        counted = {
            name
            for node in self.slices.statements
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for name in names_set(node) & sizes
            if type(node.value.value) is int
        }
        return bool(self.objects_taken) or any(size_kind(name) == "outputs" for name in counted)

    def _readings(self) -> Iterator[Reading]:
        for made, roots in self.models():
            setup = self._as_it_is_tried(made)
            self.rate = self._rate(setup)
            for sizes in self.sizes_for(setup, roots):
                self.sizes = sizes
                for form in self._forms():
                    if self.bench.tries - self._first > MOST_TRIES:
                        return
                    for reading in self._with_data(setup, roots, form):
                        yield reading
                        if self.bench.tries - self._first > MOST_IN_A_FORM:
                            return

    def _forms(self) -> Sequence[Form]:
        if is_single(self.candidate):
            return single_forms(self.sizes)
        return named_first(forms(self.sizes), self.used)

    def _targets(self, form: Form, first: Output | None) -> list[tuple[str, int | None]]:
        found = targets(form, self.sizes, None if first is None else STEPS in first.shape)
        hot = [pair for pair in found if pair[0].startswith("np.eye(")]
        if not hot or not self._looks_for_ones():
            return found
        columns = first is not None and first.shape[-1:] == (1,)
        return sorted(hot, key=lambda pair: pair[0].endswith("[..., None]") != columns)

    def _looks_for_ones(self) -> bool:
        """Whether a function looks for the largest entry of a target, which is one-hot then."""
        functions = [self.candidate.backward, *(f for _, f in self.candidate.losses)]
        for function in functions:
            needed, given = arguments(function, method=self.method)
            names = {name for name in (*needed, *given) if self.role(name) == "target"}
            for node in ast.walk(function):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                of = [*node.args[:1], node.func.value] if node.func.attr == "argmax" else []
                if any(ast.unparse(part).split("[")[0] in names for part in of):
                    return True
        return False

    # The forward pass.

    def _with_data(self, setup: str, roots: tuple[str, ...], form: Form) -> Iterator[Reading]:
        stateful = any(
            self.role(name) == "state"
            for function in (self.candidate.forward, self.candidate.backward)
            if function is not None
            for name in arguments(function, method=self.method)[0]
        )
        alike = Alike()
        for shape in states(self.sizes) if stateful else ("",):
            data = f"{self._import}\nx = {self._drawn(form.text)}"
            if form.batch is not None and self.sizes.hidden != BATCH:  # as many as are left of x
                shape = re.sub(rf"\b{BATCH}\b", f"np.shape(x)[{form.batch}]", shape)
            state = self._drawn(f"{STATE}{shape})")
            begun = f"states = [{state} for _ in range(2)]" if shape else ""
            steps = (("x", form.time),) if form.time is not None else ()
            length = f"T = np.shape(x)[{form.time}]" if form.time else "T = len(x)"
            where = f", axis {form.time}" if steps else ", a single step"
            reading = Reading(
                data,
                "\n".join(filter(None, (length, begun, setup))),
                "",
                "",
                "",
                roots,
                steps=steps,
                sequences=(("x", form.batch),) if form.batch is not None else (),
                said=(f"steps from x {form.said}{where}",),
                names=self.names,
                rate=self.rate,
            )
            stated: list[bool] = []
            for found in alike.watch(self._forwards(reading, form), self.failures):
                stated.append("states[" in f"{found.run}{found.gradient}{found.loss}")
                yield found
            if alike.enough() or (stated and not any(stated)):  # no call is given a state
                return

    def _forwards(self, reading: Reading, form: Form) -> Iterator[Reading]:
        forward = self.candidate.forward
        if forward is None:
            yield from self._backwards(reading, form, None, [])
            return
        pool = self._pool(reading)
        takes_target = self._takes_target(forward)
        wanted = self._targets(form, None) if takes_target else [("", None)]
        for target, axis in wanted:
            with_target = _with_target(reading, target, axis)
            pool.roles["target"] = ["y"] if target else []
            enough = 0
            for call in self._runs(forward, pool, form):
                text = f"out = {call.text}"
                if not self.bench.runs(f"{with_target.begin}\n{text}", self.failures):
                    continue
                enough += 1
                out = self.bench.space.get("out")
                nothing = out is None or (isinstance(out, list) and all(v is None for v in out))
                kept = self._kept() if nothing else []
                for place in kept or [""]:
                    if place:
                        self.bench.runs(f"{with_target.begin}\n{text}", self.failures)
                        text = f"{call.text}\nout = {place}"
                        self.bench.space["out"] = out = value_of(self.bench, place)
                    outputs = list(outputs_of(out, returned(forward), self.bench))
                    ready = replace(with_target, run=text, sure=call.sure)
                    yield from self._backwards(ready, form, call, outputs, takes_target)
                if enough >= ENOUGH_FORWARDS:
                    break

    def _takes_target(self, forward: Function) -> bool:
        """Whether targets are given to the forward pass, or to the object when it is made."""
        needed, _ = arguments(forward, method=self.method)
        return "y" in self.data or any(self.role(n) == "target" for n in needed)

    def _runs(self, forward: Function, pool: Pool, form: Form) -> Iterator[Call]:
        """The calls of the forward pass: one for each step, where it is a single step."""
        if self.method and form.time == 0 and is_step(forward, self.candidate.backward):
            single = replace(pool, roles={**pool.roles, "inputs": ["v"]})
            for call in calls(forward, self.prefix, single, method=True, most=2):
                given = {name: "x" if text == "v" else text for name, text in call.given.items()}
                yield replace(call, text=f"[{call.text} for v in x]", given=given)
        yield from calls(forward, self.prefix, pool, method=self.method, most=12)

    def _kept(self) -> list[str]:
        """Where a forward pass that returns nothing may keep its output, the likelier first."""
        held = getattr(self.bench.space.get("net"), "__dict__", {})
        filled = [n for n, v in held.items() if is_filled(v)]
        named = [f"net.{n}" for n in filled if role(n) == "prediction"]
        states = [n for n in filled if role(n) == "state" and not n.lower().startswith("c")]
        # A list of states often begins with the one before the first step.
        longer = [f"net.{n}[1:]" for n in states
                  if isinstance(held[n], list) and len(held[n]) == STEPS + 1]  # fmt: skip
        return [*named, *longer, *(f"net.{n}" for n in states)][:MOST_KEPT]

    def _pool(self, reading: Reading) -> Pool:
        named = {"T": "T", **self._settings}
        roles = {"inputs": ["x"]}
        if self.taken:
            named |= self.taken
        elif "params" in reading.roots:
            roles["parameters"] = ["params"]
            named["params"] = "params"
        return Pool(named, roles, dict(self.aliases))

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
            own = self._for(function, pool)
            return any(own.role(n) == kind for n in names if n not in own.named)

        upstream = takes("upstream", backward)
        target = any(takes("target", f) for _, f in self.candidate.losses)
        target = target or takes("target", backward)
        wanted: list[tuple[str, int | None]] = [("", None)]
        classes = any(output.ones for output in outputs)
        if not has_target and (target or (upstream and (self.candidate.losses or classes))):
            first = outputs[0] if outputs else None
            wanted = [*([("", None)] if upstream else []), *self._targets(form, first)]
        alike = Alike()
        for text, axis in wanted:
            if alike.enough(kind=axis is None):
                continue
            ready = _with_target(reading, text, axis) if text else reading
            if text and outputs:
                fits, enlarges = self._fits(ready, outputs, axis)
                ready = replace(ready, fits=fits, enlarges=enlarges)
            given = bool(text) or has_target
            pool.roles["target"] = ["y"] if given else []
            found = self._with_target(ready, pool, outputs, given, upstream)
            yield from alike.watch(found, self.failures, kind=axis is None)

    def _fits(self, reading: Reading, outputs: list[Output], axis: int | None) -> tuple[bool, bool]:
        """Whether the targets have the shape of an output, so that nothing is broadcast.

        And whether a step's targets, beside each output of a step, make more of it: a column
        beside a row.
        """
        self.bench.runs(reading.begin, self.failures)
        shape, kind = value_of(self.bench, "np.shape(y)"), value_of(self.bench, "np.array(y).dtype")
        fits = any(shape == output.shape for output in outputs)
        if fits or shape is None or getattr(kind, "kind", "") != "f" or axis is None:
            return fits, False
        step = tuple(np.delete(shape, axis))
        larger = []
        for output in outputs:
            own = output.shape[1:] if output.shape[:1] == shape[axis : axis + 1] else ()
            with contextlib.suppress(ValueError):
                larger.append(bool(own) and np.prod(np.broadcast_shapes(own, step)) > np.prod(own))
        return fits, bool(larger) and all(larger)

    def _results(self, reading: Reading, forward: Call | None, outputs: list[Output]) -> Pool:
        """What the backward pass and the losses can be given."""
        pool = self._pool(reading)
        if forward is None or self.candidate.forward is None:
            return pool
        names = returned(self.candidate.forward)
        elements = elements_of(self.bench.space.get("out"), names)
        pool.named |= dict(forward.given)
        pool.named |= {_bare(n): t for n, t in elements if n}
        pool.named |= {n: t for n, t in elements if n}
        bare = [_bare(n) for n, _ in elements if n]
        for name in {n for f in self.used for n in arguments(f, method=self.method)[0]}:
            if bare.count(_bare(name)) == 1:  # `outputs` is what is returned as `output_s`
                same = next(t for n, t in elements if n and _bare(n) == _bare(name))
                pool.named.setdefault(name, same)
        if whole := returned_name(self.candidate.forward):
            pool.named[whole] = "out"
        pool.named |= self.at_call_sites(elements)
        pool.roles["prediction"] = [o.raw for o in outputs]
        pool.roles["state"] = [t for n, t in elements if role(n) == "state"]
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
        ups: list[tuple[str, str, str, bool]] = [("", "", "", False)]
        if takes_upstream:
            if target:  # only outputs that the targets fit
                self.bench.runs(f"{reading.begin}\n{reading.run}", self.failures)
                outputs = [o for o in outputs if value_of(self.bench, hot(o)) is not None]
            count = self._divided_by(reading)
            ups = list(upstreams(outputs, [loss[:2] for loss in losses], target, count))
        for up, loss, said, needs in self._in_its_form(reading, pool, ups):
            if up:
                pool.roles["upstream"] = ["d"]
            own = self._for(backward, pool)
            for call in calls(backward, self.prefix, own, method=self.method, most=12):
                run = f"{up}\nback = {call.text}".strip()
                for loss_text, loss_said, guessed in self._loss_texts(
                    loss, losses, takes_upstream, reading, run, outputs, target
                ):
                    self._order += 1
                    of_file = loss_said in [words for _, words, _ in losses]
                    yield replace(
                        reading,
                        loss=loss_text,
                        gradient=run,
                        back_names=tuple(self._returned(backward)),
                        moved=moved_by(backward),
                        said=(
                            *reading.said,
                            f"loss: {said or loss_said}",
                            f"gradient: {call.text}",
                        ),
                        own_loss=of_file and not needs,
                        passes_over=guessed and not takes_upstream and not of_file and self._lossy,
                        needs_agreement=needs or guessed or not (call.sure and reading.sure),
                        order=self._order,
                    )

    def _in_its_form(
        self, reading: Reading, pool: Pool, ups: list[tuple[str, str, str, bool]]
    ) -> Iterator[tuple[str, str, str, bool]]:
        """Upstream gradients in the form in which the backward pass takes them.

        That of the output by default; where no call runs with it, a list of columns, a row, …
        """
        if not ups or not ups[0][0]:
            yield from ups
            return
        pool.roles["upstream"] = ["d"]
        own = self._for(self.candidate.backward, pool)
        backward = self.candidate.backward
        texts = [c.text for c in calls(backward, self.prefix, own, method=self.method, most=2)]
        for form in ("", *FORMS_OF_UPSTREAM):
            made = f"\nd = {form}" if form else ""
            begun = f"{reading.begin}\n{reading.run}\n{ups[0][0]}{made}"
            said = self.failures if not form else []
            if any(self.bench.runs(f"{begun}\nback = {text}", said) for text in texts):
                yield from ((f"{up}{made}", *rest) for up, *rest in ups)  # type: ignore[misc]
                return
        yield from ups

    def _divided_by(self, reading: Reading) -> str:
        """An expression for the number of sequences, where the backward pass divides something."""
        found = [f"np.shape({name})[{axis}]" for name, axis in reading.sequences]
        return found[0] if found and self._divides else ""

    @cached_property
    def _divides(self) -> bool:
        """Whether the backward pass, or what it calls, divides something."""
        used = reached([self.candidate.backward], self.functions)
        parts = (part for function in used for part in ast.walk(function))
        return any(isinstance(part, ast.Div) for part in parts)

    def _returned(self, function: Function, depth: int = 0) -> list[str]:
        """The names that a function returns; where it returns what another of them does, those."""
        for part in ast.walk(function):
            call = part.value if isinstance(part, ast.Return) else None
            if isinstance(call, ast.Call) and depth < DEEPEST_RETURN:
                other = self.functions.get(getattr(call.func, "attr", getattr(call.func, "id", "")))
                if isinstance(other, ast.FunctionDef) and other is not function:
                    return self._returned(other, depth + 1)
        return returned(function)

    def _for(self, function: Function, pool: Pool) -> Pool:
        """What one function can be given: its targets are the data's, and no result of the model's.

        A forward pass may call its output `y`, as the losses and the backward pass call the
        targets. Such an argument is the output only where a call in the file says so, or where
        there are other targets, or an upstream gradient, beside it.
        """
        needed, optional = arguments(function, method=self.method)
        every = [*needed, *optional]
        kinds = {name: pool.role(name) for name in every}
        if function is self.candidate.backward and self.candidate.forward is not None:
            # What says nothing, and is all that a backward pass needs, comes from above.
            read = {part.id for part in ast.walk(function) if isinstance(part, ast.Name)}
            known = {kinds[n] for n in every if n in read} & {"upstream", "target", "inputs"}
            unknown = [n for n in needed if not kinds[n] and n not in pool.named]
            sizes = [n for n in unknown if size_kind(n) in VALUES and len(n) > 1]
            if len(unknown) == 1 and not known and not sizes:
                pool = replace(pool, meant={**pool.meant, unknown[0]: "upstream"})
        aims = [name for name in every if kinds[name] == "target"]
        beside = "prediction" not in kinds.values() and (
            len(aims) > 1 or "upstream" in kinds.values()
        )
        # What the forward pass returned, beside a `d` that is desired, is what it returned.
        passed = [n for n in every if str(pool.named.get(n, "")).startswith("out")]
        desired = [n for n in every if n in DESIRED and n not in pool.named]
        if desired and len(passed) >= FEWEST_PASSED_ON and set(aims) <= set(passed):
            self._sited |= {(function.name, n) for n in passed}
            pool = replace(pool, meant={**pool.meant, desired[0]: "target"})
        drop = {
            name
            for name in aims
            if str(pool.named.get(name, "")).startswith("out")
            and (function.name, name) not in self._sited
            and not (beside and len(name) <= LONGEST_LETTER)
        }
        if not drop:
            return pool
        return replace(pool, named={n: t for n, t in pool.named.items() if n not in drop})

    def _loss_texts(
        self,
        loss: str,
        losses: list[tuple[str, str, bool]],
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
        own = scalar(back, returned(self.candidate.backward), "back")
        if own:
            yield f"{run}\nloss = {own}", f"{own} of {self.candidate.backward.name}", False
        if self.candidate.forward is not None:
            out, names = self.bench.space.get("out"), returned(self.candidate.forward)
            # A number that a pass without targets returns is what a network of one output gives.
            lossy = any(LOSS_NAME.search(name) for name in (*names, self.candidate.forward.name))
            found = scalar(out, names, "out")
            if found and (lossy or self._takes_target(self.candidate.forward)):
                yield f"loss = {found}", f"{found} of {self.candidate.forward.name}", False
        for text, said, sure in losses:
            yield text.replace(AFTER, f"{run}\n"), said, not sure
        for attribute in ("loss", "_loss", "cost", "total_loss", "error", "E"):
            if not (self.method or "net" in self.taken.values()):
                break
            kept = value_of(self.bench, f"net.{attribute}")
            if is_scalar(kept):
                yield f"{run}\nloss = net.{attribute}", f"net.{attribute}", False
            elif is_terms(kept):
                yield f"{run}\nloss = np.sum(net.{attribute})", f"net.{attribute}, summed", True
        if (not losses or self._has_one_loss) and not own and target:
            ends = [] if "y" in dict(reading.steps) else list(at_last_step(outputs))
            for output in (*outputs, *ends):
                yield from implicit(output)

    @property
    def _lossy(self) -> bool:
        """Whether the network has a loss: a method that is called as one, or the one function."""
        return self._has_one_loss or (
            self.method and any(prefix == "net." for prefix, _ in self.candidate.losses)
        )

    @property
    def _has_one_loss(self) -> bool:
        """Whether one loss stands beside passes that are functions."""
        return not self.method and len(self.candidate.losses) == 1

    def _losses(self, reading: Reading, pool: Pool) -> Iterator[tuple[str, str, bool]]:
        """Calls of the file's loss functions that give a number, and whether they are no guess.

        A function of the file may be the loss of something else; a method is the network's, and so
        is the one loss beside passes that are functions.
        """
        for prefix, function in self.candidate.losses:
            if prefix == "net." and not self.method:
                continue
            found = False
            for wrap in ("{}", "[{}]"):
                own = self._for(function, pool)
                for call in calls(function, prefix, own, method=prefix == "net.", most=8):
                    text = call.text
                    if not call.given:
                        yield f"{AFTER}loss = {text}", text, prefix == "net."
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
                    where = scalar(value, returned(function), "loss")
                    if not where or not is_finite(value_of(self.bench, where)):
                        continue
                    tail = "" if where == "loss" else f"\nloss = {where}"
                    own_loss = prefix == "net." or self._has_one_loss
                    yield f"loss = {text}{tail}", text, own_loss and call.sure
                    found = True
                if found:
                    break


def _with_target(reading: Reading, target: str, axis: int | None) -> Reading:
    steps = (*reading.steps, ("y", axis)) if axis is not None else reading.steps
    if target and TENSORS in reading.data:
        target = f"torch.as_tensor({target})"
    return (
        replace(reading, data=f"{reading.data}\ny = {target}", steps=steps) if target else reading
    )


def _bare(name: str) -> str:
    """A name without the mark of several: `z` for `z_s` and for `zs`."""
    return name.removesuffix("_s").removesuffix("s") or name
