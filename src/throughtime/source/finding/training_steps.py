"""The training steps of a file: lines that hold a forward pass, a loss and a gradient.

A step may stand in a loop at the top of a script, in a function or in a method; what is given to
these by the file's own calls of them comes before the step.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from throughtime.source.finding.candidates import arguments
from throughtime.source.meanings import BACKWARD, DERIVATIVE, FORWARD, LOSS, size_kind
from throughtime.source.pairing import PREFIX, SUFFIX, WORDS_IN_D
from throughtime.source.slices import names_set, reaches_out

LOSS_NAME = re.compile(
    r"(?i:loss|cost|entropy|err(or)?$|_err|objective|nll|mse|^obj$|criterion)|^_?[LJE]$"
)
SLOPE_NAME = re.compile(r"(^|_)(drv|deriv\w*|grad\w*|delta|prime|slope)(_|$)", re.I)
"""Names of what is made of a loss's derivative, as `next_err_drv_in`, and is no loss."""
OF_DERIVATIVE = re.compile(r"^(d|grad|deriv)_|_(d|deriv|derivative|grad|gradient|prime)$", re.I)
RUNNING = re.compile(
    r"smooth|total|epoch|running|avg|mean|history|list|losses|train|best|old", re.I
)
OPTIMISER = re.compile(r"optim|update|step$|adam|sgd|adagrad|rmsprop|apply", re.I)
NUMPY = ("np", "numpy", "math")
MADE = re.compile(r"\b(rand\w*|normal|uniform|zeros|ones|eye|array|full)\(")
KEPT = "back"  # what a call returns that the user's line throws away
FEWEST_GRADIENTS = 3  # names of gradients that a loop has to set, to be taken for a training loop
DEEPEST_CALLERS = 3  # functions that call the next one, whose statements come before a step
MOST_BEGINNINGS = 4  # of a file that is one step, tried as where its forward pass begins
MOST_CALLERS = 2  # calls of one function that are followed
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Region:
    """One training step.

    Args:
        name: as a message calls it.
        body: its statements.
        before: statements that come before it: those at the top of the file, and those in the
            functions and loops around it.
        given: whether the user gave its lines, so that none is left out.
        owner: the class whose method it stands in, if that is not made before.
        made: statements of the user's own, run as they stand after those before.
        shown: what a function gives back that is made of a loss, as `loss / len(targets)`.
    """

    name: str
    body: tuple[ast.stmt, ...]
    before: tuple[ast.stmt, ...]
    given: bool
    owner: str = ""
    made: str = ""
    shown: str = ""


def regions(tree: ast.Module) -> list[Region]:
    """The training steps of a file, the innermost first that hold a whole one."""
    found: list[Region] = []
    moving = _moving(tree)
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    for body, before, place, owner in _loops(tree, tree.body, ()):
        cut = _with_loss(_with_later_loss(_without_update(body), body), functions)
        lossy = bool(losses_in(cut or body))
        if _moves_within(cut) or _trains_within(cut, moving):
            continue  # several training steps, one after another
        whole, earlier = cut, tuple(before)
        if not place.startswith("the loop"):  # a function that makes its own model and data
            first = next((n for n, node in enumerate(cut) if is_pass(node)), 0)
            before, cut = (*before, *cut[:first]), cut[first:]
        if len(cut) > 1 and lossy and gradients_in(cut) >= FEWEST_GRADIENTS:
            shown = loss_given_back(body)
            found.append(Region(place, tuple(cut), tuple(before), False, owner, shown=shown))
            if len(cut) < len(whole) and losses_in(cut[:1]):  # the forward pass has another name
                found.append(Region(place, tuple(whole), earlier, False, owner, shown=shown))
        elif lossy and (first := _first_update(body)) and len(body[:first]) > 1:
            # The gradient is kept by what gives the loss, and an update is called after it.
            kept = [node for node in body[:first] if not _is_idle(node)]
            found.append(Region(place, tuple(kept), tuple(before), False, owner))
    return found or list(_straight(tree, functions))


def _straight(tree: ast.Module, functions: Mapping[str, ast.FunctionDef]) -> Iterator[Region]:
    """The statements at the top of a file that is one step from beginning to end, trained by none.

    Where its forward pass begins is not said: it may be at any loop or call of a pass before the
    loss, and where the passes are written out step by step, after what makes the last array.
    """
    top = [node for node in _flat(tree.body) if not isinstance(node, DEFINITIONS)]
    body = _with_loss(_without_update(top), functions)
    with_losses = [n for n, node in enumerate(body) if losses_in([node])]
    if not with_losses or gradients_in(body) < FEWEST_GRADIENTS:
        return
    if _moves_within(body) or _trains_within(body, _moving(tree)):
        return
    early = body[: with_losses[0] + 1]
    starts = [
        n for n, node in enumerate(early) if is_pass(node) or isinstance(node, ast.For | ast.While)
    ]
    made = [n for n, node in enumerate(early) if _is_made(node)]
    starts += [n + 1 for n in made[-1:] if n + 1 < len(early)]
    for first in dict.fromkeys(starts[:MOST_BEGINNINGS]):
        name = f"lines {body[first].lineno}-{body[-1].end_lineno}"
        yield Region(name, tuple(body[first:]), tuple(body[:first]), False)


def _is_made(node: ast.stmt) -> bool:
    """Whether a statement makes an array of random numbers, zeros, or numbers written out."""
    return isinstance(node, ast.Assign) and bool(
        re.search(
            r"\b(rand\w*|normal|uniform|zeros|ones|eye|array|full)\(", ast.unparse(node.value)
        )
    )


def region_of_lines(tree: ast.Module, first: int, last: int) -> Region | None:
    """The statements between two lines, counted as in the file; None where there are none."""
    body, before = _within(tree.body, (), first, last)
    if len(body) == 1 and isinstance(body[0], ast.For | ast.While) and gradients_in(body) > 1:
        loop = body[0]
        inner = [*before, *_header(loop)]
        return Region(
            f"lines {first}-{last}", tuple(_without_update(loop.body)), tuple(inner), False
        )
    return Region(f"lines {first}-{last}", tuple(body), tuple(before), True) if body else None


def regions_of_text(tree: ast.Module, text: str) -> list[Region]:
    """Statements of the user's own as a step: those that make a model and data come before it.

    Where the step begins is not said: the first call of a pass by name is tried first, and then
    every other statement. None where they hold no loss.
    """
    try:
        nodes = _keeping_gradients(ast.parse(text).body)
    except SyntaxError:
        return []
    setting = [n for n, node in enumerate(nodes) if "loss" in names_set(node)]
    setting = setting or [n for n, node in enumerate(nodes) if losses_in([node])]
    if not setting:
        return []
    before = tuple(node for node in _flat(tree.body) if not isinstance(node, DEFINITIONS))
    named = [n for n, node in enumerate(nodes) if is_pass(node) or n == setting[0]]
    found = []
    for first in dict.fromkeys([named[0], *range(setting[0], -1, -1)]):
        made = "\n".join(ast.unparse(node) for node in nodes[:first])
        found.append(Region("your lines", tuple(nodes[first:]), before, True, made=made))
    return found


def _keeping_gradients(nodes: list[ast.stmt]) -> list[ast.stmt]:
    """Statements in which what a call of the backward pass returns is kept, in `back`."""
    found: list[ast.stmt] = []
    for node in nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = getattr(node.value.func, "attr", getattr(node.value.func, "id", ""))
            if BACKWARD.match(called) or node is nodes[-1]:
                node = ast.copy_location(
                    ast.Assign([ast.Name(KEPT, ast.Store())], node.value), node
                )
        found.append(ast.fix_missing_locations(node))
    return found


def kept_gradients(body: Iterable[ast.stmt]) -> list[str]:
    """The names under which statements keep what calls of a backward pass return."""
    found: dict[str, None] = {}
    for node in (n for root in body for n in ast.walk(root)):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            called = getattr(node.value.func, "attr", getattr(node.value.func, "id", ""))
            if BACKWARD.match(called) and not LOSS_NAME.search(called):
                # (dx, (dW, dU, db)) too.
                names = [n.id for n in ast.walk(node.targets[0]) if isinstance(n, ast.Name)]
                kept = [n for n in names if not LOSS_NAME.search(n)]
                found |= dict.fromkeys([n for n in kept if n != "_"] or kept)
    return list(found)


def is_pass(node: ast.stmt) -> bool:
    """Whether a statement calls what is named as a forward pass, a loss or a backward pass."""
    calls = [part.func for part in ast.walk(node) if isinstance(part, ast.Call)]
    names = [getattr(func, "attr", getattr(func, "id", "")) for func in calls]
    return any(FORWARD.match(n) or LOSS.match(n) or BACKWARD.match(n) for n in names)


def _within(
    body: Sequence[ast.stmt], before: tuple[ast.stmt, ...], first: int, last: int
) -> tuple[list[ast.stmt], tuple[ast.stmt, ...]]:
    inside = [n for n in body if n.lineno >= first and (n.end_lineno or n.lineno) <= last]
    if inside:
        earlier = [n for n in body if n.lineno < inside[0].lineno]
        return inside, (*before, *earlier)
    for n, node in enumerate(body):
        if node.lineno <= first and (node.end_lineno or node.lineno) >= last:
            inner = getattr(node, "body", None)
            if inner:
                return _within(inner, (*before, *body[:n], *_header(node)), first, last)
    return [], before


Placed = tuple[Sequence[ast.stmt], tuple[ast.stmt, ...], str, str]


def _loops(
    tree: ast.Module, body: Sequence[ast.stmt], before: tuple[ast.stmt, ...], owner: str = ""
) -> Iterator[Placed]:
    """Bodies of loops and functions, inner ones first.

    With each comes what stands before it, a name, and the class whose object `self` must be made.
    """
    for n, node in enumerate(body):
        inner = getattr(node, "body", None)
        if not inner or isinstance(inner, ast.AST):
            continue
        if isinstance(node, ast.ClassDef):
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    yield from _of_function(tree, method, node.name)
        elif isinstance(node, ast.FunctionDef):
            yield from _of_function(tree, node, "")
        else:
            around = (*before, *body[:n], *_header(node))
            yield from _loops(tree, inner, around, owner)
            if isinstance(node, ast.If):
                yield from _loops(tree, node.orelse, around, owner)
            if isinstance(node, ast.For | ast.While):
                yield inner, around, f"the loop of line {node.lineno}", owner


def _of_function(tree: ast.Module, node: ast.FunctionDef, owner: str) -> Iterator[Placed]:
    """The steps in a function, once for each of the ways in which the file calls it."""
    for before, made in _before_function(tree, node, owner):
        yield from _loops(tree, node.body, before, "" if made else owner)
        yield node.body, before, f"{node.name} of line {node.lineno}", "" if made else owner


def _before_function(
    tree: ast.Module, node: ast.FunctionDef, owner: str, depth: int = 0
) -> list[tuple[tuple[ast.stmt, ...], bool]]:
    """What is set when a function is run: by its callers, by their callers, and its defaults.

    With each comes whether `self` is among it.
    """
    found: list[tuple[tuple[ast.stmt, ...], bool]] = []
    needed, optional = arguments(node, method=bool(owner))
    for earlier, call, inside in _calls(tree, node.name) if depth < DEEPEST_CALLERS else ():
        words = dict(zip([*needed, *optional], call.args, strict=False))
        words |= {k.arg: k.value for k in call.keywords if k.arg}
        lines = [f"{name} = {ast.unparse(value)}" for name, value in words.items()
                 if ast.unparse(value) != name]  # fmt: skip
        target = call.func.value if isinstance(call.func, ast.Attribute) else None
        if owner and target is not None:
            if ast.unparse(target).startswith(("self", "super")):
                continue
            lines.insert(0, f"self = {ast.unparse(target)}")
        own = (*_defaults(node, set(words)), *ast.parse("\n".join(lines)).body)
        if inside is None:
            found.append(((*earlier, *own), bool(owner and target is not None)))
            continue
        outer, inner_owner = inside
        for before, _ in _before_function(tree, outer, inner_owner, depth + 1)[:1]:
            found.append(((*before, *earlier, *own), bool(owner and target is not None)))
        if len(found) >= MOST_CALLERS:
            break
    if not found:
        top = tuple(n for n in _flat(tree.body) if not isinstance(n, DEFINITIONS))
        found.append(((*top, *_defaults(node, set())), False))
    return found[:MOST_CALLERS]


Inside = tuple[ast.FunctionDef, str] | None


def _calls(tree: ast.Module, name: str) -> Iterator[tuple[tuple[ast.stmt, ...], ast.Call, Inside]]:
    """Calls of a function: what stands before each, in the function or file that it is in."""

    def within(
        body: Sequence[ast.stmt], before: tuple[ast.stmt, ...], inside: Inside
    ) -> Iterator[tuple[tuple[ast.stmt, ...], ast.Call, Inside]]:
        for n, node in enumerate(body):
            earlier = (*before, *(m for m in body[:n] if not isinstance(m, DEFINITIONS)))
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    if isinstance(method, ast.FunctionDef) and method.name != name:
                        yield from within(method.body, (), (method, node.name))
            elif isinstance(node, ast.FunctionDef):
                if node.name != name:
                    yield from within(node.body, (), (node, ""))
            elif isinstance(getattr(node, "body", None), list):
                for call in _calls_in(getattr(node, "iter", getattr(node, "test", None)), name):
                    yield earlier, call, inside
                for field in ("body", "orelse"):
                    inner = getattr(node, field, [])
                    yield from within(inner, (*earlier, *_header(node)), inside)
            else:
                for call in _calls_in(node, name):
                    yield earlier, call, inside

    yield from within(tree.body, (), None)


def _calls_in(node: ast.AST | None, name: str) -> Iterator[ast.Call]:
    """The calls of a function or method by its name within a statement or an expression."""
    for part in ast.walk(node) if node is not None else ():
        func = part.func if isinstance(part, ast.Call) else None
        if func is not None and name == getattr(func, "attr", getattr(func, "id", "")):
            assert isinstance(part, ast.Call)
            yield part


def _flat(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements, those under `if __name__ == "__main__":` in their place."""
    for node in body:
        if isinstance(node, ast.If) and "__name__" in ast.dump(node.test):
            yield from node.body
        else:
            yield node


def _header(node: ast.stmt) -> list[ast.stmt]:
    """What a loop or function sets before its body: the first of a loop, defaults."""
    if isinstance(node, ast.For):
        return [ast.copy_location(ast.For(node.target, node.iter, [ast.Break()], []), node)]
    if isinstance(node, ast.FunctionDef):
        return _defaults(node, set())
    if isinstance(node, ast.With):
        return [
            ast.copy_location(ast.Assign([item.optional_vars], item.context_expr), node)
            for item in node.items
            if item.optional_vars is not None
        ]
    return []


def _defaults(node: ast.FunctionDef, known: set[str]) -> list[ast.stmt]:
    given = node.args.defaults
    named = node.args.args[len(node.args.args) - len(given) :]
    lines = [
        f"{a.arg} = {ast.unparse(d)}"
        for a, d in zip(named, given, strict=True)
        if a.arg not in known
    ]
    return ast.parse("\n".join(lines)).body


def losses_in(body: Iterable[ast.stmt]) -> set[str]:
    """The names of losses that statements set: so called, or given by what is so called."""
    found: set[str] = set()
    for node in body:
        named = {n for n in names_set(node) if LOSS_NAME.search(n) and not is_gradient(n)}
        found |= {name for name in named if not SLOPE_NAME.search(name)}
        for part in ast.walk(node):
            if not isinstance(part, ast.Assign) or not isinstance(part.value, ast.Call):
                continue
            called = getattr(part.value.func, "attr", getattr(part.value.func, "id", ""))
            if LOSS.match(called) and not DERIVATIVE.search(called):
                target = part.targets[0]
                several = isinstance(target, ast.Tuple | ast.List) and target.elts
                first = several[0] if several else target
                if isinstance(first, ast.Name) and not is_gradient(first.id):
                    found.add(first.id)
    return found


def loss_given_back(body: Sequence[ast.stmt]) -> str:
    """What a function gives back that is a loss it has set divided by something; "" for nothing."""
    own = losses_in(body)
    for node in body:
        if not isinstance(node, ast.Return) or node.value is None:
            continue
        parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        for part in parts:
            if _made_of(part) & own and isinstance(part, ast.BinOp | ast.Call):
                return ast.unparse(part)
    return ""


def made_of_losses(body: Sequence[ast.stmt]) -> dict[str, set[str]]:
    """The losses that are set from others of the same step, and which: `mean = np.mean(losses)`."""
    own = losses_in(body)
    begun: set[str] = set()
    found: dict[str, set[str]] = {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name, read = node.targets[0].id, _made_of(node.value)
            if name in own and read & begun and name not in read and read & own <= begun:
                found[name] = read & own
        begun |= {n for n in names_set(node) if n in own and isinstance(node, ast.Assign)}
    return found


def _made_of(value: ast.expr) -> set[str]:
    """The names that a sum, a mean or a division is made of; none for anything else."""
    if isinstance(value, ast.Call):
        called = getattr(value.func, "attr", getattr(value.func, "id", ""))
        if called not in ("mean", "sum", "float", "average"):
            return set()
    elif not isinstance(value, ast.BinOp) or not isinstance(value.op, ast.Div):
        return set()
    return {part.id for part in ast.walk(value) if isinstance(part, ast.Name)}


def is_gradient(name: str) -> bool:
    """Whether a name is one of a gradient."""
    name = name.rpartition(".")[2]
    if WORDS_IN_D.match(name):
        return False
    return bool(PREFIX.match(name) or SUFFIX.search(name)) and len(name) > 1


def _names(node: ast.stmt) -> set[str]:
    """The names that a statement sets, those of attributes and keys too."""
    found = set(names_set(node))
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store):
            found.add(part.attr)
        if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store):
            inner = part.value
            key = part.slice.value if isinstance(part.slice, ast.Constant) else ""
            found.add(str(key))
            if isinstance(inner, ast.Attribute):
                found.add(inner.attr)
    return found


def gradients_in(body: Iterable[ast.stmt]) -> int:
    """How many gradients statements set; a call of a backward pass counts as enough."""
    names = set()
    for node in body:
        names |= {name for name in _names(node) if is_gradient(name)}
        for part in ast.walk(node):
            if isinstance(part, ast.Call):
                name = getattr(part.func, "attr", getattr(part.func, "id", ""))
                backward = re.search("back|bptt", name, re.I)
                if BACKWARD.match(name) and (backward or not OPTIMISER.search(name)):
                    return FEWEST_GRADIENTS
    return len(names)


def _first_update(body: Sequence[ast.stmt]) -> int:
    """The place of the first statement that calls an update; 0 where there is none."""
    for n, node in enumerate(body):
        if isinstance(node, ast.Expr) and _is_update(node):
            return n
    return 0


def _without_update(body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """A step's statements before its clip and update, without those that print or plot."""
    working = [
        n
        for n, node in enumerate(body)
        if gradients_in([node]) and not _is_update(node) and not _is_reset(node)
    ]
    kept: list[ast.stmt] = []
    for node in body[: working[-1] + 1 if working else 0]:
        if not _is_idle(node):
            kept.append(node)
    return kept


def _with_later_loss(cut: list[ast.stmt], body: Sequence[ast.stmt]) -> list[ast.stmt]:
    """A step that sets no loss before its gradient, with the loss that it works out after it.

    What that is made of was computed before anything moved.
    """
    if not cut or losses_in(cut):
        return cut
    later = list(body)[list(body).index(cut[-1]) + 1 :]
    setting = [n for n, node in enumerate(later) if losses_in([node])]
    if not setting:
        return cut
    kept = [node for node in later[: setting[-1] + 1] if not _is_idle(node)]
    if any(map(_is_update, kept)) or not all(map(_is_plain, kept)):
        return cut
    return [*cut, *kept]


def _is_plain(node: ast.stmt) -> bool:
    """Whether a statement calls nothing but losses, NumPy and what Python has itself.

    A forward pass that is run again, under whatever name, would be at parameters that have moved.
    """
    for part in ast.walk(node):
        if not isinstance(part, ast.Call):
            continue
        func = part.func
        name = getattr(func, "attr", getattr(func, "id", ""))
        of_numpy = isinstance(func, ast.Attribute) and getattr(func.value, "id", "") in NUMPY
        if not (of_numpy or LOSS.match(name) or name in vars(builtins)):
            return False
    return True


def _with_loss(body: list[ast.stmt], functions: Mapping[str, ast.FunctionDef]) -> list[ast.stmt]:
    """A step that names no loss, with that whose derivative it takes.

    Beside `d = mse_derivative(y, y_hat)`, where the file has `mse` too, it is `mse(y, y_hat)`, and
    beside `d = output_gradient(y, t)` it is `loss(y, t)`, where that is the one loss of y and t.
    """
    named = {name for node in body for name in names_set(node)}
    if any(LOSS_NAME.search(name) and not is_gradient(name) for name in named):
        return body
    for n, node in enumerate(body):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            loss = _loss_beside(getattr(node.value.func, "id", ""), functions)
            if loss:
                arguments_given = ", ".join(map(ast.unparse, node.value.args))
                (added,) = ast.parse(f"loss = {loss}({arguments_given})").body
                return [*body[: n + 1], ast.copy_location(added, node), *body[n + 1 :]]
    return body


def _loss_beside(derivative: str, functions: Mapping[str, ast.FunctionDef]) -> str:
    """The loss whose derivative a function is by its name, or its name and its arguments; or ""."""
    losses = [name for name in functions if LOSS.match(name) and not DERIVATIVE.search(name)]
    plain = OF_DERIVATIVE.sub("", derivative)
    if plain != derivative and plain in losses:
        return plain
    if derivative not in functions or not (
        DERIVATIVE.search(derivative) or is_gradient(derivative)
    ):
        return ""
    own = arguments(functions[derivative], method=False)[0]
    same = [name for name in losses if arguments(functions[name], method=False)[0] == own]
    return same[0] if len(same) == 1 and len(own) > 1 else ""


def _moves_within(body: Iterable[ast.stmt]) -> bool:
    """Whether a loop among statements moves parameters each time: then they are several steps."""
    return any(
        isinstance(part, ast.Expr | ast.AugAssign | ast.Assign)
        and _is_update(part)
        and "clip" not in ast.unparse(part)
        for node in body
        if isinstance(node, ast.For | ast.While)
        for part in ast.walk(node)
    )


def _moving(tree: ast.Module) -> set[str]:
    """The names of the file's functions and methods that move parameters by a rate."""
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(p, ast.AugAssign | ast.Assign) and _is_update(p) for p in ast.walk(node))
    }


def _trains_within(body: Iterable[ast.stmt], moving: set[str]) -> bool:
    """Whether a loop among statements runs a forward pass and moves parameters each time."""
    for node in body:
        if not isinstance(node, ast.For | ast.While):
            continue
        calls = [part.func for part in ast.walk(node) if isinstance(part, ast.Call)]
        names = [getattr(func, "attr", getattr(func, "id", "")) for func in calls]
        if any(n in moving for n in names) and any(FORWARD.match(n) for n in names):
            return True
    return False


def _is_idle(node: ast.stmt) -> bool:
    """Whether a statement only shows something, or leaves the loop."""
    if isinstance(node, ast.If) and not any(is_gradient(n) for n in names_set(node)):
        leaves = isinstance(node.body[0], ast.Continue | ast.Break | ast.Return | ast.Raise)
        return reaches_out(node) or leaves
    return isinstance(node, ast.Expr) and reaches_out(node)


def _is_reset(node: ast.stmt) -> bool:
    """Whether a statement sets gradients to zero."""
    if isinstance(node, ast.AugAssign):
        return isinstance(node.op, ast.Mult) and isinstance(node.value, ast.Constant)
    text = ast.unparse(node.value) if isinstance(node, ast.Assign) else ""
    return "zeros" in text or text in ("0", "0.0")


def _is_update(node: ast.stmt) -> bool:
    """Whether a statement clips gradients or moves parameters."""
    text = ast.unparse(node)
    if isinstance(node, ast.For) and "reversed" not in text and re.search(r"clip|zip\(", text):
        return True
    if isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Sub | ast.Add):
        target = ast.unparse(node.target)
        return _has_rate(node) and not is_gradient(target)
    if isinstance(node, ast.Assign | ast.Expr) and isinstance(node.value, ast.Call):
        called = [node.value.func]
        if isinstance(node.value.func, ast.Attribute):
            called.append(node.value.func.value)
        names = [getattr(c, "attr", getattr(c, "id", "")) for c in called]
        backward = re.search("back|bptt|grad", names[0], re.I)
        if isinstance(node, ast.Assign) and names[0] == "step" and not _has_rate(node):
            return any(OPTIMISER.search(name) for name in names[1:])  # else that of a cell
        return not backward and any(
            "clip" in name.lower() or OPTIMISER.search(name) for name in names
        )
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp):
        target = ast.unparse(node.targets[0])
        return _has_rate(node.value) and not is_gradient(target)
    return False


def _has_rate(node: ast.AST) -> bool:
    """Whether a learning rate is read."""
    return any(
        size_kind(getattr(part, "id", getattr(part, "attr", ""))) == "rate"
        for part in ast.walk(node)
        if isinstance(part, ast.Name | ast.Attribute)
    )
