"""Tracing a step, deriving its backward pass, and what is printed of it."""

import ctypes
import re
import shutil
import subprocess

import numpy as np
import pytest

import throughtime as tt
from derived_cells import BUILT_IN, CELLS, made
from throughtime.equations import TEXT, LiveExample, Writer
from throughtime.equations.c_code import C_STYLE

DEFINED = {**CELLS, **{name: derived.definition for name, (derived, _) in BUILT_IN.items()}}


@pytest.mark.parametrize("name", DEFINED)
def test_every_line_agrees_with_a_numerical_derivative(name):
    derivation = tt.derive(made(DEFINED[name], 2, 2))
    assert derivation.agrees, derivation.checked()
    assert [check.line.of for check in derivation.checks]


def test_a_wrong_line_differs(monkeypatch):
    from throughtime.equations import OPERATIONS

    right = OPERATIONS["tanh"]
    wrong = type(right)(**{**vars(right), "derivative": lambda g, y, x: (g * (1 - y),)})
    monkeypatch.setitem(OPERATIONS, "tanh", wrong)
    fresh = tt.cell(W="H I", U="H H", b="H")(BUILT_IN["RNN"][0].definition.step)
    derivation = tt.derive(fresh)
    assert not derivation.agrees
    assert "differs" in derivation.checked()


@pytest.mark.parametrize("name", DEFINED)
def test_the_printed_numpy_runs_and_gives_every_gradient(name):
    cell = made(DEFINED[name])
    derivation, example = tt.derive(cell), LiveExample(cell.derivation)
    space = {}
    exec(derivation.numpy.replace(" from step t + 1", ""), space)  # remarks stand in comments
    step = space[f"{derivation.name}_step"]
    step_backward = space[f"{derivation.name}_step_backward"]
    trace = cell.derivation.trace
    p = [example.parameters[node.number] for node in trace.parameters.values()]
    state, tapes = [a[0] for a in example.initial.values()], []
    for t in range(len(example.inputs)):
        *after, kept = step(example.inputs[t, 0], *state, *p)
        tapes.append((state, kept))
        state = after
    gradient = [np.zeros(node.shape) for node in trace.parameters.values()]
    dstate = [a[0] for a in example.of_final.values()]
    for t in reversed(range(len(example.inputs))):
        before, kept = tapes[t]
        dstate[0] = dstate[0] + example.of_output[t, 0]
        found = step_backward(*dstate, example.inputs[t, 0], *before, kept, *p, gradient)
        dstate = list(found[: len(dstate)])
    lines = {line.of.number: example.deltas[line.delta.number] for line in cell.derivation.lines}
    for (parameter, node), ours in zip(trace.parameters.items(), gradient, strict=True):
        wanted = lines[node.number]
        np.testing.assert_allclose(ours, wanted, rtol=1e-10, atol=1e-13, err_msg=parameter)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_cell_takes_at_most_twenty_lines(name):
    assert len(tt.derive(BUILT_IN[name][0]).lines) <= 20


def test_the_error_carousel_reads_as_one_writes_it():
    text = tt.derive(BUILT_IN["LSTM"][0]).text
    for line in (
        "δc_t = δc_next + δh_t ⊙ σ_o ⊙ (1 − tanh_c²)  # from step t + 1, through h_t",
        "δf = δc_t ⊙ c_{t−1} ⊙ σ_f ⊙ (1 − σ_f)",
        "δh_{t−1} = Uᵀ δz",
        "δW = Σ_t δz x_tᵀ",
    ):
        assert line in text


def test_latex_has_a_row_for_each_line():
    derivation = tt.derive(BUILT_IN["GRU"][0])
    rows = derivation.latex.count(r"\\")
    assert rows == len(derivation.lines) + len(Writer(derivation.backward, TEXT).forward())
    assert r"\delta h_{t-1}" in derivation.latex


def step_of(body, names="x, h, W", **shapes):
    space = {"np": np, "tt": tt, "rng": np.random.default_rng(0)}
    exec(f"def step({names}):\n" + "\n".join(f"    {line}" for line in body.split("\n")), space)
    return tt.cell(**(shapes or {"W": "H I"}))(space["step"])


REFUSED = {
    "a shape that does not fit": ("return np.tanh(W @ h)", r"\(3, 2\) and \(3,\) do not fit"),
    "if": ("if np.sum(h) > 0:\n    h = -h\nreturn h + W @ x", "np.where"),
    "in place": ("h += W @ x\nreturn h", r"instead of z \+= a"),
    "an entry in place": ("h[0] = 1.0\nreturn h + W @ x", "np.concatenate"),
    "an unknown function": ("return np.linalg.inv(W) @ x + h", r"np\.linalg\.inv is not known"),
    "an unknown ufunc": ("return np.arcsinh(W @ x) + h", "np.arcsinh is not known"),
    "a Python number": ("return h * float(np.sum(W @ x))", "Python number"),
    "a complex number": ("return h * 1j + W @ x", "complex128 value takes part"),
    "an unused parameter": ("return 2.0 * h", "the parameter W takes no part"),
    "a step too short": ("return (W @ x)[:2]", r"\(3,\) before the step and \(2,\) after"),
    "too many states": ("return h, h, h, h + W @ x", "got 4"),
    "no state": ("return ()", "got 0"),
    "not traced": ("return np.zeros(3)", "computed from the arguments"),
    "an index beyond": ("return h + (W @ x)[5]", "index 5 of an axis with 3"),
    "uneven parts": ("a, b = np.split(W @ x, 2)\nreturn h", "np.split of 3 entries into 2"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_derived_is_refused_in_words(case):
    body, words = REFUSED[case]
    with pytest.raises(tt.EquationError, match=words):
        step_of(body)(2, 3)


def test_a_parameter_without_a_shape_is_named():
    with pytest.raises(tt.EquationError, match="U would be parameters, and have no shape"):
        step_of("return np.tanh(W @ x + U @ h)", "x, h, W, U", W="H I")(2, 3)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"V": "H"}, "expected shapes of arguments of step, which are x, h, W, got V"),
        ({"W": "4h I"}, "sizes such as"),
        ({"W": "H Q"}, "give it: Q="),
    ],
)
def test_wrong_shapes_are_refused(shapes, words):
    with pytest.raises(ValueError, match=words):
        step_of("return np.tanh(W @ x + h)", **shapes)(2, 3)


@pytest.mark.parametrize(
    "body",
    [
        "return h + rng.standard_normal(3) * (W @ x)",
        "return h + (rng.random(3) < 2) * (W @ x)",  # a mask that is the same in every call
        "return h + (np.random.rand(3) < 2) * (W @ x)",
    ],
)
def test_random_numbers_within_a_step_are_constants_that_are_seen(body):
    with pytest.raises(tt.EquationError, match="differ from call to call"):
        step_of(body)(2, 3)


def noisy(x, h, W):
    z = W @ x + h
    noise = np.random.randn()  # noqa: NPY002
    return np.tanh(z) * noise


def two_for_one(x, h, W):
    return np.tanh(W @ x + h), h


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (noisy, r"test_equations.py, line \d+, `return np.tanh\(z\) \* noise`: numbers"),
        (two_for_one, "returns 2 states, h and W; .*if W is a parameter, return fewer states"),
        (lambda x, h, W: None, "got None; end the step with `return h`"),
        (lambda x, h, W: np.tanh(W @ x, out=h), "a value is changed in place; write z = z"),
        (lambda x, h, W: W @ x + np.erf(h), r"test_equations.py, line \d+.*no attribute 'erf'"),
    ],
)
def test_a_message_says_where_and_what_to_do(step, words):
    with pytest.raises(tt.EquationError, match=words):
        tt.cell(W="H I")(step)(2, 3)


@pytest.mark.parametrize(
    "function",
    [
        lambda z: z.clip(-0.5, 0.5),
        lambda z: np.log2(z**2 + 1),
        lambda z: np.log10(z**2 + 1),
        lambda z: np.exp2(-(z**2)),
        lambda z: np.tan(0.2 * z),
    ],
)
def test_functions_that_are_made_of_others(function):
    made = tt.cell(W="H I", U="H H")(lambda x, h, W, U: function(W @ x + U @ h))
    assert tt.derive(made).agrees


def test_scipys_sigmoid_is_ours():
    special = pytest.importorskip("scipy.special")
    made = tt.cell(W="H I")(lambda x, h, W: special.expit(W @ x + h))
    assert "(1 − " in str(tt.derive(made))
    assert tt.derive(made).agrees


SUMS = [  # A is (3, 3), v has 3 entries
    *("ij,j->i", "ij,i->j", "ji,j->i", "ij,j", "i,ij->j", "ij , j -> i"),
    *("ij,jk->ik", "ij,jk->ki", "ij,kj->ik", "ji,jk->ik", "ij,jk", "ij,ij->", "ij,ji->"),
    *("ij,ij->ij", "ij,ji->ij", "ij,ij->i", "ij,ij->j", "ij,i->ij", "ij,j->ij", "ij,j->ji"),
    *("i,j->ij", "i,j->ji", "i,i->i", "i,i->", "i,i", "i,j->i", "ij->ji", "ij->i", "ij->"),
    *("i->i", "i->", "ij,k->ik", "ji", "ij,i->", "ij,kj->"),
]


@pytest.mark.parametrize("subscripts", SUMS)
def test_einsum_is_the_sum_that_numpy_computes(subscripts):
    axes = subscripts.replace(" ", "").partition("->")[0].split(",")
    rng = np.random.default_rng(0)
    W, U, x, h = (rng.standard_normal(s) for s in ((3, 3), (3, 3), (3,), (3,)))

    def step(x, h, W, U):
        values = {1: iter((W @ x, h)), 2: iter((W + np.outer(x, h), U))}
        found = np.einsum(subscripts, *(next(values[len(own)]) for own in axes))
        return np.tanh(h + found.sum(axis=0) if found.ndim > 1 else h + found)

    used = tt.cell(W="H I", U="H H")(lambda x, h, W, U: step(x, h, W, U) + 0.1 * (W @ x + U @ h))
    assert tt.derive(used).agrees
    program = used(3, 3)
    y, _, _ = program.forward({"W": W, "U": U}, x[None, None], {"h": h[None]})
    expected = step(x, h, W, U) + 0.1 * (W @ x + U @ h)
    np.testing.assert_allclose(y[0, 0], expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("subscripts", "words"),
    [
        ("ii->i", "np.einsum of 'ii->i' is not known here; write it with @"),
        ("...i->i", "is not known here"),
        ("ij,jk->ijk", "is not known here"),
        ("ij->ik", "the result has an axis of its own"),
        ("i->i", r"'i' in np.einsum for the shape \(3, 3\)"),
    ],
)
def test_einsum_beyond_matrices_is_refused(subscripts, words):
    def step(x, h, W):
        given = (W, W) if "," in subscripts else (W,)
        return np.einsum(subscripts, *given) @ h + W @ x

    with pytest.raises(tt.EquationError, match=words):
        tt.cell(W="H I")(step)(3, 3)


def test_a_state_that_needs_a_shape_of_its_own_is_named():
    def slow(x, h, s, W, V):
        s = 0.9 * s + V @ x
        return np.tanh(W @ x + h), s

    words = r'h and s have the shape H, as every state .* @tt.cell\(s="H H"\)'
    with pytest.raises(tt.EquationError, match=words):
        tt.cell(W="H I", V="C I")(slow)(2, 3, C=4)


def test_one_name_for_delta_of_a_state_that_passes_through():
    """δ of a state before the step is δ of the one after it, which C must not leave unused."""

    def counted(x, h, t, W):
        t = t + 1.0
        return np.tanh(W @ x + h) * np.sin(t), t

    text = tt.derive(tt.cell(W="H I")(counted)).c
    assert "dt_before[i] = dt[i]" in (text() if callable(text) else text)


def test_other_libraries_see_the_lines_of_the_step():
    """A debugger's or a coverage tool's own trace function is there again afterwards."""
    import sys

    before = sys.gettrace()
    tt.derive(BUILT_IN["RNN"][0])
    assert sys.gettrace() is before


COMPILER = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
def test_the_printed_c_compiles_and_gives_every_gradient(tmp_path):
    """All cells in one file, whose arrays are checked for bounds by the sizes they are given."""
    made_cells = {name: tt.derive(made(definition)) for name, definition in DEFINED.items()}
    for name, derivation in made_cells.items():
        word = "".join(c if c.isalnum() else "_" for c in name)
        source, library = tmp_path / f"{word}.c", tmp_path / f"{word}.so"
        source.write_text(derivation.c)
        flags = ["-O1", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-shared", "-fPIC"]
        subprocess.run(
            [COMPILER, "-std=c99", *flags, str(source), "-o", str(library), "-lm"], check=True
        )
        _same_as_numpy(derivation, ctypes.CDLL(str(library)))


def _same_as_numpy(derivation, library):
    backward, example = derivation.backward, LiveExample(derivation.backward)
    trace, name = backward.trace, derivation.name
    p = [example.parameters[node.number] for node in trace.parameters.values()]
    state, tapes = [a[0] for a in example.initial.values()], []
    texts = re.findall(r"void (\w+)\(([^)]*)\) \{", derivation.c)
    words = {n: [w.strip().rpartition("*") for w in a.split(",")] for n, a in texts}
    shapes = {n.removesuffix("_t"): node.shape for node, n in _named(backward)}
    names = [trace.inputs.name, *(f"{s}_before" for s in trace.states), *trace.parameters]
    for t in range(len(example.inputs)):
        values = dict(zip(names, [example.inputs[t, 0], *state, *p], strict=True))
        for constant, _, word in words[f"{name}_step"]:
            if "const" not in constant:
                own = word.removesuffix("_after")
                values[word] = np.full(_shape_of(own, shapes, trace), np.nan)
        _call(library, f"{name}_step", words, values)
        tapes.append(values)
        state = [values.get(f"{s}_after", values.get(s)) for s in trace.after]
    gradient = {f"d{n}": np.zeros(node.shape) for n, node in trace.parameters.items()}
    writer = Writer(backward, C_STYLE)
    arriving = {n: writer.names[node.number] for n, node in backward.arriving.items()}
    dstate = {n: a[0] for n, a in example.of_final.items()}
    first = next(iter(trace.states))
    for t in reversed(range(len(example.inputs))):
        dstate[first] = dstate[first] + example.of_output[t, 0]
        values = tapes[t] | gradient | {arriving[n]: dstate[n] for n in dstate}
        for n, node in (*trace.states.items(), (trace.inputs.name, trace.inputs)):
            word = f"d{n}" if node is trace.inputs else f"d{n}_before"
            values[word] = np.full(node.shape, np.nan)
        _call(library, f"{name}_step_backward", words, values)
        dstate = {n: values[f"d{n}_before"] for n in trace.states}
    lines = {line.of.number: example.deltas[line.delta.number] for line in backward.lines}
    for n, node in trace.parameters.items():
        wanted = lines[node.number]
        np.testing.assert_allclose(gradient[f"d{n}"], wanted, rtol=1e-9, atol=1e-12, err_msg=n)


def _named(backward):
    nodes = {node.number: node for node in backward.trace.graph.nodes}
    return [(nodes[number], name) for number, name in Writer(backward, C_STYLE).names.items()]


def _shape_of(word, shapes, trace):
    return shapes[word] if word in shapes else trace.after[word].shape


def _call(library, function, words, values):
    pointer = ctypes.POINTER(ctypes.c_double)
    arrays = []
    for _, _, word in words[function]:
        values[word] = np.ascontiguousarray(values[word], dtype=np.float64)
        arrays.append(values[word].ctypes.data_as(pointer))
    getattr(library, function)(*arrays)


def test_a_step_that_needs_equal_sizes_is_said_to_need_them():
    """Or x @ W in place of W @ x would pass for right until the sizes differ."""
    turned = step_of("return np.tanh(x @ W + h)")
    assert "works only where I = H" in str(tt.derive(turned))
    with pytest.raises(tt.EquationError, match="do not fit"):
        tt.derive(turned, I=2)
    assert "works only" not in str(tt.derive(BUILT_IN["RNN"][0].definition))
