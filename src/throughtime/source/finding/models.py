"""Ways to make the model of a candidate: an object, parameters, the constants of its file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import product

from throughtime.gradcheck import CheckError
from throughtime.source.bench import Bench
from throughtime.source.finding.arrays_by_name import (
    arrays_wanted,
    dictionaries,
    keys_wanted,
    looked_up,
    unpacked,
)
from throughtime.source.finding.by_use import activations_called, described, tables_taken
from throughtime.source.finding.calls import role_of, sized, unnamed_aim
from throughtime.source.finding.candidates import (
    Candidate,
    Function,
    arguments,
    attributes,
    methods,
    returned,
)
from throughtime.source.finding.constructors import (
    QUOTES,
    class_of_argument,
    constructors,
    data_of_constructor,
    own_literals,
)
from throughtime.source.finding.forms import Sizes, forms, sizes_of, targets, written_sizes
from throughtime.source.finding.losses import value_of
from throughtime.source.finding.rates import rate_of, reached
from throughtime.source.finding.stand_ins import stand_ins
from throughtime.source.finding.updates import without_optimisers
from throughtime.source.meanings import INITIALISE, INPUTS, STEPS, size_kind
from throughtime.source.pairing import places
from throughtime.source.slices import Slices, names_set

ENOUGH_MODELS = 2  # ways to make a model that are gone on with
# Before data for code in torch, whose random numbers no state of NumPy's holds.
TENSORS = "import torch\ntorch.set_default_dtype(torch.float64)\ntorch.manual_seed(0)"
FEWEST_RETURNED = 2  # arguments of the passes, for what a function returns to be the parameters
PENALTY = re.compile(r"^_?(reg(_\w+)?|l[12](_\w+)?|lambda_?|lam|lmbda|weight_decay|\w+_(reg|l2))$")
TRAINING = re.compile(r"^_?(is_?|in_?)?train(ing)?(_?mode)?$", re.I)
BUILD = re.compile(r"^_?(init|build|connect|set_?up|compile|create|make|alloc|reset)", re.I)
"""Methods that make the arrays of an object whose constructor makes none."""
ZEROES = re.compile(r"^_?(init\w*|zero|reset|clear|make|create)_?\w*(grad|deriv|delta)\w*$", re.I)
"""Methods that make the arrays of an object's gradients, or set them to 0."""
RETURNS = re.compile(r"^_?(return|output|with|keep)_", re.I)  # settings of what a pass gives
LEFT_OUT = "lambda *given, **_: "  # in the place of what moves the parameters
RATE = 0.1  # that calls are given
IMPORT = "import numpy as np\ndraw = np.random.default_rng(0)"


class Models:
    """The models of one candidate.

    Args:
        bench: the user's file.
        slices: its statements.
        candidate: what is read.
        setup: statements that make the model as `net`, or a function's parameters as `params`,
            where the user gives them.
    """

    def __init__(self, bench: Bench, slices: Slices, candidate: Candidate, setup: str = "") -> None:
        self.bench, self.slices, self.candidate, self.given_setup = bench, slices, candidate, setup
        self.failures: list[str] = []
        self.sizes = Sizes()
        self.rate = RATE
        self.names: tuple[str, ...] = ()  # of parameters that a function of the file returns
        self.taken: dict[str, str] = {}  # arguments that are parameters, with their expressions
        self.data: tuple[str, ...] = ()  # arguments of the constructor that are data, x and y
        self.drawn = ""  # statements that draw some of them
        self.single = False  # whether models with one output are made
        self.narrow = False  # whether these have one input, too
        self.still = False  # whether what moves the parameters is left out
        self._first = bench.tries
        self._order = 0.0
        self._sited: set[tuple[str, str]] = set()  # functions and arguments that get results
        self.method = candidate.owner is not None
        self.prefix = "net." if self.method else ""
        used: list[Function] = [candidate.backward, *(f for _, f in candidate.losses)]
        if candidate.forward is not None:
            used.append(candidate.forward)
        self.used = used
        self.aliases = {name: other for function in used for name, other in self._aliases(function)}
        self.tensors = "torch" in slices.imported and "np" not in slices.names_used(used)
        self._import = f"{IMPORT}\n{TENSORS}" if self.tensors else IMPORT
        names = [f.name for f in used] if not self.method else []
        names += [candidate.owner.name] if candidate.owner else []
        names += [f.name for _, f in candidate.losses]
        self.globals = sorted(slices.globals_of(names))
        self.classes = slices.classes

    def _aliases(self, function: Function) -> Iterator[tuple[str, str]]:
        """Arguments of a function with the names of what the file's own calls give for them."""
        needed, optional = arguments(function, method=self.method)
        for name, default in optional.items():
            if isinstance(default, ast.Name):
                yield name, default.id
        own = (
            {id(part) for part in ast.walk(self.candidate.owner)} if self.candidate.owner else set()
        )
        for call in self.slices.calls_of(function.name):
            if id(call) in own and not ast.unparse(call.func).startswith(f"self.{function.name}"):
                continue  # a method of another object's, called alike: `self.output.forward(h)`
            words: dict[str, ast.expr] = dict(zip([*needed, *optional], call.args, strict=False))
            words |= {k.arg: k.value for k in call.keywords if k.arg}
            for name, value in words.items():
                if isinstance(value, ast.Name):
                    yield name, value.id
        for name in looked_up(function):  # whatever it is called
            yield name, "params"
        if aim := unnamed_aim(function, needed):
            yield aim, "target"

    @cached_property
    def _settings(self) -> dict[str, str]:
        """Arguments that the file's own calls give words, True or False, as `is_train=True`."""
        found: dict[str, str] = {}
        for function in self.used:
            needed, optional = arguments(function, method=self.method)
            for name, text in own_literals(self.slices, function.name, needed).items():
                if name in optional and RETURNS.match(name):
                    continue  # a call that wants no result is not one that a loss is made of
                if text in ("True", "False") or text[0] in QUOTES:
                    found.setdefault(name, text)
            for name, text in activations_called(function, needed, self.classes).items():
                found.setdefault(name, text)
            for name in tables_taken(function, needed):
                found.setdefault(name, f"np.eye({INPUTS})")
        return found

    @property
    def _start(self) -> str:
        """What is run before a model is made."""
        return f"{self._import}\nT = {STEPS}{self.drawn}"

    def role(self, name: str) -> str:
        """What an argument is, by what the file gives for it, or else by its own name."""
        return role_of(name, self.aliases)

    def sizes_for(self, setup: str, roots: tuple[str, ...]) -> list[Sizes]:
        """The sizes that data are drawn for: those of the model's arrays, where they differ."""
        given = [written_sizes(f) for f in (self.candidate.forward, self.candidate.backward) if f]
        written = {**given[-1], **given[0]}
        ours = bool(re.search(r"^params = (list\()?\{", setup, re.M)) or "(lambda p:" in setup
        own = ours and not self.given_setup  # arrays of the sizes that we ask for
        if self.single:
            sizes = Sizes(inputs=1, outputs=1) if self.narrow else Sizes(outputs=1)
            return [replace(sizes, **written)]
        if own or not self.bench.runs(f"{self._start}\n{setup}", self.failures):
            return [Sizes()]
        shapes = [
            place.value.shape
            for root in roots
            for place in places(root, value_of(self.bench, root), (root,))
        ]
        found = sizes_of(shapes)
        if written:  # out in the code, whatever the arrays' sizes are
            own_sizes = [replace(s, **written) for s in found]
            found = [*own_sizes, *(s for s in found if s not in own_sizes)][: len(found) + 1]
        return list(dict.fromkeys(found))

    @property
    def functions(self) -> dict[str, ast.AST]:
        """The functions of the file, and the methods of the candidate's own class, by name."""
        return {**self.slices.definitions, **self.own}

    def _rate(self, setup: str) -> float:
        """The learning rate of updates: what the user's code has, or what calls are given."""
        if any(map(self._takes_rate, self.used)):
            return RATE
        if not self.bench.runs(f"{self._start}\n{setup}", self.failures):
            self.failures.pop()
            return RATE

        def value(name: str) -> object:
            return value_of(self.bench, re.sub(r"^self\.", "net.", name))

        return rate_of(self.used, self.functions, value) or RATE

    def _takes_rate(self, function: Function) -> bool:
        """Whether a function is given a learning rate; `learn=True` only says that it learns."""
        needed, optional = arguments(function, method=self.method)
        flags = {
            name
            for name, default in optional.items()
            if isinstance(default, ast.Constant) and isinstance(default.value, bool)
        }
        return any(self.role(name) == "rate" for name in {*needed, *optional} - flags)

    def _drawn(self, text: str) -> str:
        """Data as the user's code has them: tensors, where it is written in torch."""
        return f"torch.as_tensor({text})" if self.tensors else text

    def models(self) -> Iterator[tuple[str, tuple[str, ...]]]:
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
        wrong: list[str] = []  # why other calls did not run, of interest if none does
        name = self.candidate.owner.name
        self.data = data_of_constructor(self.slices, name)
        for call, drawn in product(self._calls(name), self._drawn_data()):
            self.drawn, text = drawn, f"{constants}\nnet = {call}"
            if self.bench.runs(f"{self._start}\n{text}", self.failures):
                enough += 1
                if made := self._made_by_method(text):
                    yield f"{text}\n{made}", ("params", "net", *arrays)
                    continue
                text = self._with_gradients(self._built(text))
                yield f"{text}{self._in_training()}{self._without_penalty()}", ("net", *arrays)
                if enough >= ENOUGH_MODELS and "lambda p" not in call:
                    return
            else:
                wrong.append(self.failures.pop())
        self.failures += wrong if not enough else []

    def _calls(self, name: str) -> list[str]:
        """Calls that make an object; those with a single output alone, where these are wanted."""
        passes = [f for f in (self.candidate.forward, self.candidate.backward) if f is not None]
        written = {kind: size for f in passes for kind, size in written_sizes(f).items()}
        every = constructors(self.slices, name, sizes=written)
        if not self.single:
            return every
        if self.narrow:
            written = {"inputs": 1, "outputs": 1, **written}
        single = constructors(self.slices, name, single=True, sizes=written)
        return [call for call in single if call not in every]

    def _drawn_data(self) -> list[str]:
        """Statements that draw what a constructor is given of data; one with none of them."""
        if not self.data:
            return [""]
        return [
            f"\nx = {form.text}[:{STEPS}]\ny = {aim}"
            for form in (f for f in forms(Sizes()) if not f.time)
            for aim, _ in targets(form, Sizes())[:2]
        ]

    def _as_it_is_tried(self, setup: str) -> str:
        """A model's statements, with those that leave its optimisers out where they hide it."""
        if not self.still:
            return setup
        made = without_optimisers(reached([self.candidate.backward], self.functions), self.own)
        return f"{setup}\n{made}" if made else setup

    @property
    def own(self) -> dict[str, Function]:
        """The methods of the candidate's class."""
        owner = self.candidate.owner
        return methods(owner, self.classes) if owner is not None else {}

    def _made_by_method(self, text: str) -> str:
        """The statement that makes parameters by a method, where the passes are given them."""
        owner = self.candidate.owner
        assert owner is not None
        passes = [f for f in (self.candidate.forward, self.candidate.backward) if f is not None]
        taken = [n for f in passes for n in arguments(f, method=True)[0]]
        if not any(self.role(name) == "parameters" for name in taken):
            return ""
        for name, method in methods(owner, self.classes).items():
            if INITIALISE.match(name) and name != "__init__" and _gives(method):
                for given in sized(method, method=True, most=3):
                    made = f"params = net.{name}({given})"
                    if self.bench.runs(f"{self._start}\n{text}\n{made}", self.failures):
                        return made
                    self.failures.pop()
        return ""

    def _built(self, text: str) -> str:
        """With a call of the method that makes the arrays, where the constructor makes none."""
        lacking = self._lacking()
        if self._has_weights() and not lacking:
            return text
        for name, method in self._builders(lacking):
            for given in sized(method, method=True, most=6):
                made = f"{text}\nnet.{name}({given})"
                if not self.bench.runs(f"{self._start}\n{made}", self.failures):
                    self.failures.pop()
                elif self._has_weights() and not lacking & self._lacking():
                    return made
        self.bench.runs(f"{self._start}\n{text}", self.failures)
        return text

    def _builders(self, lacking: set[str]) -> Iterator[tuple[str, Function]]:
        """Methods that may make the arrays: by their names, or since they set what is lacking.

        A framework calls them when it puts its layers together, as `layer.set_input_shape(n)`.
        """
        passes = {"__init__", *(function.name for function in self.used)}
        own = {name: method for name, method in self.own.items() if name not in passes}
        if not self._has_weights():
            yield from ((name, method) for name, method in own.items() if BUILD.match(name))
        setting = {n: len(lacking & attributes(m, ast.Store)) for n, m in own.items()}
        for name in sorted((n for n, count in setting.items() if count), key=lambda n: -setting[n]):
            yield name, own[name]

    def _lacking(self) -> set[str]:
        """Attributes that the passes read, that nothing has set yet, and a method would set."""
        held = self.bench.space.get("net")
        reach = reached([f for f in self.used if f.name in self.own], self.own)
        read = {name for function in reach for name in attributes(function, ast.Load)}
        set_by_passes = {name for function in reach for name in attributes(function, ast.Store)}
        others = [m for n, m in self.own.items() if n != "__init__" and m not in reach]
        set_by_others = {name for method in others for name in attributes(method, ast.Store)}
        return {
            name
            for name in (read & set_by_others) - set_by_passes
            if getattr(held, name, None) is None
        }

    def _with_gradients(self, text: str) -> str:
        """With a call of the method that makes the arrays of the gradients, where there is one."""
        for name, method in self.own.items():
            if not ZEROES.match(name) or any(arguments(method, method=True)):
                continue
            made = f"{text}\nnet.{name}()"
            if self.bench.runs(f"{self._start}\n{made}", self.failures):
                return made
            self.failures.pop()
        return text

    def _has_weights(self) -> bool:
        """Whether the object holds a matrix."""
        held = value_of(self.bench, "net")
        return any(place.value.ndim > 1 for place in places("net", held, ("net",)))

    def _in_training(self) -> str:
        """Sets what says that the object is trained, as `training = False`, to True."""
        held = self.bench.space.get("net")
        names = [n for n in dir(held) if TRAINING.match(n) and getattr(held, n, None) is False]
        return "".join(f"\nnet.{name} = True" for name in names)

    def _without_penalty(self) -> str:
        """Sets to 0 what weighs a penalty of the parameters, where no loss of the class has it."""
        if any(prefix == "net." for prefix, _ in self.candidate.losses):
            return ""
        held = getattr(self.bench.space.get("net"), "__dict__", {})
        found = [n for n, v in held.items() if PENALTY.match(n) and type(v) is float and v]
        return "".join(f"\nnet.{name} = 0.0" for name in found)

    def _constants(self, names: Iterable[str]) -> str:
        """The file's statements that set these names; those that fail are left out.

        For what is lost then, as a size that is counted in data that are not there, something of
        its kind stands in.
        """
        stood: dict[str, str] = {}
        wanted = self.slices.closure(names)
        while True:
            begun = [f"{name} = {text}" for name, text in stood.items()]
            kept, failures = self._run_in_turn([*begun, *self._statements(names, stood)])
            held = self.bench.space
            lost = sorted(n for n in wanted - stood.keys() if n not in held or _is_zero(held[n]))
            found = stand_ins(lost, self.slices) if lost else {}
            if not found:
                self.failures += failures
                return "\n".join(kept)
            stood |= found

    def _statements(self, names: Iterable[str], known: Iterable[str]) -> list[str]:
        """The file's statements that set names; with one output, where these are wanted."""
        found = ast.parse(self.slices.text(names, known)).body
        narrow = ("outputs", "inputs") if self.narrow else ("outputs",)
        return [_single(node, narrow) if self.single else ast.unparse(node) for node in found]

    def _run_in_turn(self, statements: Iterable[str]) -> tuple[list[str], list[str]]:
        """The statements that run, one after another, and why others do not."""
        kept: list[str] = []
        failures: list[str] = []
        self.bench.runs(self._start, failures)
        for text in statements:
            try:
                self.bench.go_on(text)
                kept.append(text)
            except CheckError as problem:
                failures.append(str(problem))
        return kept, failures

    def _functions(
        self, constants: str, arrays: tuple[str, ...]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """For functions: their constants, and parameters made by a function of the file."""
        if self.given_setup:
            yield f"{constants}\n{self._named_params(self.given_setup)}", ("params", *arrays)
            return
        apart = [found for function in self.used if (found := unpacked(function)) is not None]
        self.taken = {name: "params" for name, _ in apart}
        takes = [
            name
            for function in self.used
            for name in [n for part in arguments(function, method=False) for n in part]
            if self.role(name) == "parameters" or name in self.taken
        ]
        if takes:
            for name, node in self.slices.definitions.items():
                if isinstance(node, ast.FunctionDef) and INITIALISE.match(name):
                    if node in self.used or not returned(node) or self._gives_apart(node):
                        continue
                    constants_too = self._constants(
                        set(self.globals) | self.slices.globals_of([name])
                    )
                    for given in sized(node, method=False, most=6):
                        text = f"{constants_too}\nparams = {name}({given})"
                        if self.bench.runs(f"{self._start}\n{text}", self.failures):
                            self.names = tuple(returned(node))
                            yield text, ("params", *arrays)
                            self.names = ()
                            break
        yield from self._returned_apart()
        yield from self._of_an_object(constants, arrays)
        if takes:
            for text in dictionaries(apart[0][1]) if apart else ():
                self.names = tuple(apart[0][1])
                yield f"{constants}\nparams = list({text}.values())", ("params", *arrays)
            self.names, self.taken = (), {}
            if text := described(self.used):
                yield f"{constants}\nparams = {text}", ("params", *arrays)
            helpers = [
                f for f in self.slices.definitions.values() if isinstance(f, ast.FunctionDef)
            ]
            if keys := keys_wanted(helpers):
                for text in dictionaries(keys):
                    yield f"{constants}\nparams = {text}", ("params", *arrays)
        yield from self._with_arrays(constants, arrays)
        yield constants, arrays

    def _returned_apart(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """With parameters that a function of the file returns one by one, as the passes take them.

        `W, U, b = init()` and `forward(x, W, U, b)`.
        """
        wanted = self._wanted
        before = self.taken
        for name, node in self.slices.definitions.items():
            if not isinstance(node, ast.FunctionDef) or not INITIALISE.match(name):
                continue
            given = returned(node)
            if node in self.used or not self._gives_apart(node):
                continue
            needs = set(self.globals) | self.slices.globals_of([name])
            constants = self._constants(needs)
            for words in sized(node, method=False, most=6):
                text = f"{constants}\nparams = list({name}({words}))"
                if self.bench.runs(f"{self._start}\n{text}", self.failures):
                    self.names = tuple(given)
                    self.taken = {n: f"params[{i}]" for i, n in enumerate(given) if n in wanted}
                    yield text, ("params",)
                    self.names, self.taken = (), before
                    break

    @property
    def objects_taken(self) -> dict[str, str]:
        """Arguments of functions that are objects of a class of the file, with that class."""
        if self.method:
            return {}
        pairs = [(f, name) for f in self.used for name in arguments(f, method=False)[0]]
        found = {name: class_of_argument(f, name, self.classes) for f, name in pairs}
        return {name: kind for name, kind in found.items() if kind}

    def _of_an_object(
        self, constants: str, arrays: tuple[str, ...]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """For functions that are given an object of a class of the file: `forward(net, x)`."""
        taken = self.objects_taken
        if len(set(taken.values())) != 1:
            return
        self.taken = dict.fromkeys(taken, "net")
        for call in self._calls(next(iter(taken.values()))):
            text = f"{constants}\nnet = {call}"
            if self.bench.runs(f"{self._start}\n{text}", self.failures):
                yield text, ("net", *arrays)
                break
            self.failures.pop()
        self.taken = {}

    @property
    def _wanted(self) -> set[str]:
        """The arguments of the passes and the losses, where these are functions."""
        return {n for f in self.used for part in arguments(f, method=False) for n in part}

    def _gives_apart(self, function: Function) -> bool:
        """Whether a function returns several things that the passes take under their names."""
        return len(self._wanted & set(returned(function))) >= FEWEST_RETURNED

    def _named_params(self, setup: str) -> str:
        """The user's own statements; what they make for an argument of parameters is `params`."""
        nodes = ast.parse(setup).body
        made = [name for node in nodes for name in sorted(names_set(node))]
        if "params" in made:
            return setup
        if len(nodes) == 1 and isinstance(nodes[0], ast.Expr):
            return f"params = {setup}"
        own = [name for name in made if name in self._wanted and self.role(name) == "parameters"]
        return f"{setup}\nparams = {own[0]}" if own else setup

    def _with_arrays(
        self, constants: str, arrays: tuple[str, ...]
    ) -> Iterator[tuple[str, tuple[str, ...]]]:
        """For functions, or a class, whose parameters are arguments of the passes."""
        passes = [f for f in (self.candidate.forward, self.candidate.backward) if f is not None]
        names = dict.fromkeys(name for f in passes for name in arrays_wanted(f, method=self.method))
        for text in dictionaries(list(names)) if names else ():
            self.taken = {name: f"params[{name!r}]" for name in names}
            yield f"{constants}\nparams = {text}", ("params", *arrays)
        self.taken = {}


def _is_zero(value: object) -> bool:
    """Whether a value is a number of 0 entries, as of what is counted where there is nothing."""
    return type(value) is int and value == 0


def _single(node: ast.stmt, kinds: Sequence[str]) -> str:
    """A statement's text; a number that it sets is 1, where its name is a size of these kinds."""
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    value = node.value if isinstance(node, ast.Assign) else None
    sized = isinstance(target, ast.Name) and size_kind(target.id) in kinds
    if sized and isinstance(value, ast.Constant) and type(value.value) is int:
        return f"{ast.unparse(target)} = 1"  # type: ignore[arg-type]
    return ast.unparse(node)


def _gives(function: Function) -> bool:
    """Whether a function returns something."""
    return any(isinstance(n, ast.Return) and n.value is not None for n in ast.walk(function))
