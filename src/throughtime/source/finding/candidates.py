"""What in a file may be checked: classes and functions with a forward and a backward pass."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from throughtime.source.meanings import (
    BACKWARD,
    BIAS,
    CELL,
    DERIVATIVE,
    FORWARD,
    LOSS,
    WEIGHT,
    role,
)
from throughtime.source.pairing import PREFIX
from throughtime.source.slices import Slices, names_read

Function = ast.FunctionDef
BOTH = re.compile("loss|cost|forward|fwd", re.I)  # in the name of both passes in one
WRAPPERS = {"array", "asarray", "stack", "vstack", "hstack", "concatenate", "list", "tuple"}
FEWEST_PARTS = 2  # classes of passes that a whole network makes
USED = 0.01  # of how likely each is, by which functions that a script uses differ among themselves
HELPS = 4.0  # less likely is a class with both passes that holds no arrays
MAKES = re.compile(r"rand|normal|uniform|zeros|ones|eye|array|init|xavier|glorot|empty|full", re.I)
NO_PASS = re.compile(  # in the name of what is no pass
    r"init|reset|zero|null|clip|update|apply|adam|sgd|step|loss|cost|error|save|load|plot|print|set"
    r"|check|numeric|sample|generate|train|fit|accura|score|encode|hot|optim|learn",
    re.I,
)
WHOLE = re.compile(r"^_?(forward|feed_?forward)(_?pass|_?prop(agat\w+)?)?$", re.I)
"""Names of the whole forward pass, beside which `linear_forward` is a part of it."""
ABSTRACT = 2.0  # less likely is a class with a pass that others have to fill in
FEWEST_GRADIENTS = 3  # of weights, that a function works out, to be a backward pass by these alone
FIRST_WORDS = ("back", "bptt", "bprop", "grad", "lossf", "costf")


@dataclass(frozen=True)
class Candidate:
    """One thing that may be checked.

    Args:
        name: as the command line names it.
        owner: the class, None for functions.
        forward: the forward pass, where it is a call of its own.
        backward: what gives the gradient.
        losses: functions of the loss, with what stands before their names in a call.
        likely: how likely it is what a user means; the largest first.
    """

    name: str
    owner: ast.ClassDef | None
    forward: Function | None
    backward: Function
    losses: tuple[tuple[str, Function], ...] = ()
    likely: float = 0.0
    line: int = field(default=0)

    @property
    def names(self) -> set[str]:
        """What the command line may call it: `LSTM`, and `LSTM.bptt` of one of its passes."""
        first = self.name.partition(".")[0]
        passes = [f for f in (self.forward, self.backward) if f is not None and self.owner]
        return {self.name, first, *(f"{first}.{f.name}" for f in passes)}


def candidates(tree: ast.Module, slices: Slices) -> list[Candidate]:
    """Those of a file, the likeliest first."""
    classes = {n.name: n for n in slices.definitions.values() if isinstance(n, ast.ClassDef)}
    functions = {n.name: n for n in slices.definitions.values() if isinstance(n, Function)}
    imported = [n for n in slices.siblings.values() if isinstance(n, Function)]
    losses = [("", f) for f in (*functions.values(), *imported) if is_loss(f)]
    for name, method, statement in slices.attached:
        function = functions.pop(getattr(statement.value, "id", ""), None)
        if function is not None and name in classes:
            losses = [pair for pair in losses if pair[1] is not function]
            classes[name] = _with_method(classes[name], function, method)
            slices.definitions[name] = classes[name]
    every = {**slices.classes, **classes}
    found = [c for node in classes.values() for c in _of_class(node, every, losses)]
    found = _whole_first(found)
    found += _used_first(list(_of_functions(functions, losses)), slices)
    return sorted(found, key=lambda candidate: -candidate.likely)


def _whole_first(found: list[Candidate]) -> list[Candidate]:
    """Candidates with a network that makes several of the others likelier than its parts.

    An encoder that is right says nothing of the decoder; the network that makes both has its loss.
    """
    best = {c.owner.name: c.likely for c in reversed(found) if c.owner is not None}

    def likely(candidate: Candidate) -> float:
        owner = candidate.owner
        parts = names_read(owner) & set(best) - {owner.name} if owner is not None else set()
        whole = len(parts) >= FEWEST_PARTS and candidate.line == getattr(owner, "lineno", 0)
        return max(
            [candidate.likely, *(best[n] + USED for n in parts)] if whole else [candidate.likely]
        )

    return [replace(c, likely=likely(c)) for c in found]


def _with_method(node: ast.ClassDef, function: Function, name: str) -> ast.ClassDef:
    """A class with a function that the file attaches to it as a method."""
    renamed = copy.copy(function)
    renamed.name = name
    found = copy.copy(node)
    found.body = [*node.body, renamed]
    return found


def is_loss(function: Function) -> bool:
    """Whether a function is named as a loss, and no derivative of one."""
    name = function.name
    penalty = re.search("reg|req|penal|l1|l2", name, re.I)
    return (
        bool(LOSS.match(name))
        and not penalty
        and not DERIVATIVE.search(name)
        and not is_backward(function)
    )


def is_forward(function: Function) -> bool:
    """Whether a function is named as a forward pass, and not as both passes in one."""
    return bool(FORWARD.match(function.name)) and not re.search("back|grad", function.name, re.I)


def is_backward(function: Function) -> bool:
    """Whether a function is named as a backward pass, or returns what is named as gradients."""
    if BACKWARD.match(function.name):
        return not LOSS.match(function.name) or _has_gradients(function)
    if LOSS.match(function.name) and len(returned(function)) > 1 and _runs_backward(function):
        return True  # the loss and its gradients, which functions of layers work out
    if not NO_PASS.search(function.name) and _gradients_of(function) >= FEWEST_GRADIENTS:
        return True
    return sum(name.startswith("d") and len(name) > 1 for name in returned(function)) >= 2


def _runs_backward(function: Function) -> bool:
    """Whether a function calls what is named as a backward pass: `affine_backward(dy, cache)`."""
    calls = (part.func for part in ast.walk(function) if isinstance(part, ast.Call))
    names = (getattr(func, "attr", getattr(func, "id", "")) for func in calls)
    return any(re.search("back|bprop|_bwd", name, re.I) for name in names)


def _gradients_of(function: Function) -> int:
    """How many gradients of weights a function works out of products, whatever it is called."""
    found = set()
    for part in ast.walk(function):
        if not isinstance(part, ast.Assign | ast.AugAssign):
            continue
        products = [p for p in ast.walk(part.value) if _is_product(p)]
        target = part.targets[0] if isinstance(part, ast.Assign) else part.target
        name = getattr(target, "attr", getattr(target, "id", ""))
        rest = PREFIX.sub("", name, count=1)
        if products and rest != name and (WEIGHT.match(rest) or BIAS.match(rest)):
            found.add(rest)
    return len(found)


def _is_product(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.MatMult)
    called = getattr(getattr(node, "func", None), "attr", "")
    return isinstance(node, ast.Call) and called in ("dot", "outer", "matmul", "einsum")


def _called_before(node: ast.ClassDef, backward: Function, own: Mapping[str, Function]) -> str:
    """The method that some method of a class calls before its backward pass, "" if none."""
    for function in own.values():
        order = [
            part.func.attr
            for part in ast.walk(function)
            if isinstance(part, ast.Call)
            and isinstance(part.func, ast.Attribute)
            and getattr(part.func.value, "id", "") == "self"
        ]
        if backward.name in order and function is not backward:
            earlier = order[: order.index(backward.name)]
            for name in reversed(earlier):
                given = arguments(own[name], method=True)[0] if name in own else []
                roles = {role(a) for a in given}
                if given and not NO_PASS.search(name) and roles & {"inputs", ""}:
                    return name
    return ""


def _has_gradients(function: Function) -> bool:
    """Whether what is named as a loss gives gradients too: returns several things, or keeps dW."""
    kept = (
        getattr(part, "attr", getattr(part, "id", ""))
        for part in ast.walk(function)
        if isinstance(part, ast.Attribute | ast.Name) and isinstance(part.ctx, ast.Store)
    )
    several = len(returned(function)) > 1
    return several or any(role(name) == "upstream" for name in kept)


def methods(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> dict[str, Function]:
    """The methods of a class, with those that it has from others of the file."""
    found: dict[str, Function] = {}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in classes and base.id != node.name:
            found |= methods(classes[base.id], classes)
    return found | {part.name: part for part in node.body if isinstance(part, Function)}


def arguments(function: Function, *, method: bool) -> tuple[list[str], dict[str, ast.expr]]:
    """The arguments that a call has to give, and those with a default, by name."""
    every = [*function.args.posonlyargs, *function.args.args]
    static = any(getattr(d, "id", "") == "staticmethod" for d in function.decorator_list)
    if method and every and not static:
        every = every[1:]
    defaults = function.args.defaults
    needed = [a.arg for a in every[: len(every) - len(defaults)]]
    given = {a.arg: d for a, d in zip(every[len(every) - len(defaults) :], defaults, strict=True)}
    for argument, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        if default is None:
            needed.append(argument.arg)
        else:
            given[argument.arg] = default
    return needed, given


def attributes(function: Function, context: type[ast.expr_context]) -> set[str]:
    """The attributes of its own object that a method reads, `ast.Load`, or sets, `ast.Store`."""
    own = function.args.args[0].arg if function.args.args else ""
    return {
        part.attr
        for part in ast.walk(function)
        if isinstance(part, ast.Attribute)
        and isinstance(part.ctx, context)
        and getattr(part.value, "id", "") == own
    }


def returned(function: Function) -> list[str]:
    """The names in the last `return` of a function, in their order; "" for what has no name."""
    last: ast.expr | None = None
    for part in _own(function):
        if isinstance(part, ast.Return) and part.value is not None:
            last = part.value
    if isinstance(last, ast.Name):
        for part in _own(function):
            several = isinstance(part, ast.Assign) and isinstance(part.value, ast.Tuple | ast.List)
            if several and last.id in {getattr(target, "id", "") for target in part.targets}:  # type: ignore[attr-defined]
                return [_name(element) for element in part.value.elts]  # type: ignore[attr-defined]
        return [last.id]
    if isinstance(last, ast.Tuple | ast.List):
        return [_name(element) for element in last.elts]
    return [_name(last)] if last is not None else []


def returned_lists(function: Function) -> list[list[str]]:
    """For each part of what a function returns the names in the list that it is; else none.

    Example:
        >>> text = "def f(): grads = [dW, dU]; return h, grads"
        >>> returned_lists(ast.parse(text).body[0])
        [[], ['dW', 'dU']]
    """
    made: dict[str, list[str]] = {}
    parts: list[ast.expr] = []
    for part in _own(function):
        if isinstance(part, ast.Return) and part.value is not None:
            parts = part.value.elts if isinstance(part.value, ast.Tuple) else [part.value]
        elif isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
            several = part.value.elts if isinstance(part.value, ast.List | ast.Tuple) else []
            made[part.targets[0].id] = [_name(element) for element in several]
    return [
        [_name(element) for element in part.elts]
        if isinstance(part, ast.List)
        else made.get(_name(part), [])
        for part in parts
    ]


def returned_name(function: Function) -> str:
    """The name that a function returns alone, "" where it returns something else."""
    found = ""
    for part in _own(function):
        if isinstance(part, ast.Return) and part.value is not None:
            found = part.value.id if isinstance(part.value, ast.Name) else ""
    return found


def _own(function: Function) -> Iterator[ast.AST]:
    """The parts of a function, in the order of the text, without functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        part = waiting.pop(0)
        yield part
        if not isinstance(part, Function | ast.ClassDef | ast.Lambda):
            waiting = [*ast.iter_child_nodes(part), *waiting]


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Call) and node.args and {k.arg for k in node.keywords} <= {"dtype"}:
        called = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called in WRAPPERS:  # np.array(self.outputs)
            return _name(node.args[0])
    while isinstance(node, ast.Subscript | ast.BinOp):
        node = node.left if isinstance(node, ast.BinOp) else node.value
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _of_class(
    node: ast.ClassDef, classes: Mapping[str, ast.ClassDef], losses: list[tuple[str, Function]]
) -> Iterator[Candidate]:
    every = methods(node, classes)
    own = {name: f for name, f in every.items() if not _is_abstract(f)}
    open_ = any(is_forward(f) or is_backward(f) for n, f in every.items() if n not in own)
    forwards = [f for f in own.values() if is_forward(f)]
    forwards.sort(
        key=lambda f: (
            re_cell(f.name),
            not WHOLE.match(f.name),
            "forward" not in f.name.lower(),
            f.name.startswith("_"),
        )
    )
    # What another runs in its loop is a single step, whatever it is called.
    forwards = [f for f in forwards if not any(_runs_in_loop(other, f) for other in forwards)]
    backwards = [f for f in own.values() if is_backward(f) and f not in forwards[:1]]
    if not forwards and backwards and (called := _called_before(node, backwards[0], own)):
        forwards = [own[called]]
    backwards.sort(key=lambda f: -_likely(node.name, f, None, 0))
    inner = [("net.", f) for f in own.values() if is_loss(f)]
    helps = HELPS if _holds_nothing(own, forwards + backwards, classes) else 0.0
    for backward in backwards:
        forward = _partner(backward, forwards)
        if forward is None and not BOTH.search(backward.name):
            forward = forwards[0] if forwards else None
        if forward is not None and _runs_all(backward, forward):
            forward = None
        yield Candidate(
            node.name if backward is backwards[0] else f"{node.name}.{backward.name}",
            node,
            forward,
            backward,
            tuple(inner + losses),
            _likely(node.name, backward, forward, len(inner)) + 1 - helps - ABSTRACT * open_,
            node.lineno,
        )


def _holds_nothing(
    own: Mapping[str, Function], passes: list[Function], classes: Mapping[str, ast.ClassDef]
) -> bool:
    """Whether a class makes no arrays, nor objects of the file's classes, and is given none.

    So it is with an activation function that has both passes, which is no network.
    """
    for function in own.values():
        if function in passes:
            continue
        if set(arguments(function, method=True)[0]) - {"name"}:
            return False
        for part in ast.walk(function):
            if isinstance(part, ast.Call):
                called = getattr(part.func, "attr", getattr(part.func, "id", ""))
                if called in classes or MAKES.search(called):
                    return False
    return bool(own)


def _of_functions(
    functions: Mapping[str, Function], losses: list[tuple[str, Function]]
) -> Iterator[Candidate]:
    forwards = [f for f in functions.values() if is_forward(f)]
    for backward in functions.values():
        if not is_backward(backward) or backward in forwards:
            continue
        forward = _partner(backward, forwards)
        if forward is None and len(forwards) == 1 and not BOTH.search(backward.name):
            forward = forwards[0]
        yield Candidate(
            backward.name,
            None,
            forward,
            backward,
            tuple(losses),
            _likely(backward.name, backward, forward, len(losses)),
            backward.lineno,
        )


def _is_abstract(function: Function) -> bool:
    """Whether a method does nothing, and is there to be replaced: `pass`, `raise`, a docstring."""
    return all(
        isinstance(part, ast.Pass | ast.Raise)
        or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        for part in function.body
    )


def _used_first(found: list[Candidate], slices: Slices) -> list[Candidate]:
    """Candidates with those that the file's script uses no less likely than others beside them."""
    waiting, used = [n for node in slices.statements for n in names_read(node)], set()
    while waiting:
        name = waiting.pop()
        if name not in used:
            used.add(name)
            waiting += names_read(slices.definitions[name]) if name in slices.definitions else []
    best = max((c.likely for c in found), default=0.0)
    return [
        replace(c, likely=best + USED * c.likely) if c.backward.name in used else c for c in found
    ]


def _runs_in_loop(function: Function, other: Function) -> bool:
    """Whether a method calls another one of the same object in a loop over its own argument."""
    given = set(arguments(function, method=True)[0])
    for loop in ast.walk(function):
        if not isinstance(loop, ast.For) or not given & names_read(loop.iter):
            continue
        calls = [part.func for part in ast.walk(loop) if isinstance(part, ast.Call)]
        if other is not function and f"self.{other.name}" in map(ast.unparse, calls):
            return True
    return False


def is_single(candidate: Candidate) -> bool:
    """Whether both passes are of a single step: they have no loop, and are given the state."""
    passes = [f for f in (candidate.forward, candidate.backward) if f is not None]
    loops = (ast.For, ast.While, ast.comprehension)
    if len(passes) == 1 or any(isinstance(p, loops) for f in passes for p in ast.walk(f)):
        return False
    given = arguments(passes[0], method=candidate.owner is not None)[0]
    return any(role(name) == "state" for name in given)


def is_step(forward: Function, backward: Function) -> bool:
    """Whether a forward pass is a single step, of which the object keeps what comes next.

    So it is where it has no loop, while the backward pass has one, and where it sets some
    attribute anew that it has read, as `self.state = tanh(x @ W + self.state @ U)`.
    """
    loops = (ast.For, ast.While, ast.comprehension)
    if any(isinstance(p, loops) for p in ast.walk(forward)):
        return False
    if not any(isinstance(p, ast.For | ast.While) for p in ast.walk(backward)):
        return False
    held: dict[type, set[str]] = {ast.Load: set(), ast.Store: set()}
    for part in ast.walk(forward):
        if isinstance(part, ast.Attribute) and type(part.ctx) in held:
            held[type(part.ctx)].add(ast.unparse(part))
    return bool(held[ast.Load] & held[ast.Store])


def _runs_all(backward: Function, forward: Function) -> bool:
    """Whether a method runs the forward pass itself, and returns the loss beside the gradients."""
    lossy = any(w in name.lower() for name in returned(backward) for w in ("loss", "cost"))
    called = {
        part.func.attr
        for part in ast.walk(backward)
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute)
    }
    return lossy and forward.name in called


def _partner(backward: Function, forwards: list[Function]) -> Function | None:
    """The forward pass whose name differs from a backward pass's in that word alone."""
    if re.search("forward|fwd", backward.name, re.I):
        return None  # both passes in one
    rest = _rest(backward.name, ("backward", "backpropagation", "backprop", "back", "bptt", "bwd"))
    for forward in forwards:
        if _rest(forward.name, ("forward", "feedforward", "fwd", "propagation", "prop")) == rest:
            return forward
    return None


def _rest(name: str, words: tuple[str, ...]) -> str:
    low = name.lower()
    for word in words:
        low = low.replace(word, "")
    return low.replace("prop", "").replace("agation", "").strip("_")


def _likely(name: str, backward: Function, forward: Function | None, losses: int) -> float:
    """How likely a candidate is meant: a recurrent network with its loss rather than a layer."""
    low = backward.name.lower().replace("_", "")
    score = 2.0 * any(word in low for word in FIRST_WORDS) + bool(CELL.search(name))
    score += 0.5 * bool(losses) + 0.5 * (forward is not None)
    loops = any(isinstance(part, ast.For | ast.While) for part in ast.walk(backward))
    score += 1.5 * loops
    targets = [a for a in arguments(backward, method=False)[0] if role(a) == "target"]
    score += 0.5 * bool(targets)
    if re_cell(name):
        score -= 1.5
    return score - 1.0 * any(w in low for w in ("step", "update", "optim", "train", "learn", "fit"))


def re_cell(name: str) -> bool:
    """Whether a name is that of one step."""
    return "cell" in name.lower() or "step" in name.lower() or "node" in name.lower()
