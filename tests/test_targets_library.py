"""Shared libraries as targets: the C interface, and everything that can go wrong with it."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import throughtime as tt
from quoted_output import quoted
from throughtime.cli import main
from throughtime.targets import INCLUDE

COMPILER = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)

if COMPILER is None:
    pytest.skip("no C++ compiler", allow_module_level=True)

EXAMPLES = Path(__file__).parents[1] / "examples" / "targets"

# L = Σ (t + 1) w³ over T steps; each fault is one definition.
SOURCE = r"""
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include "throughtime.h"

#ifndef REAL
#define REAL double
#endif
#ifndef DTYPE
#define DTYPE "float64"
#endif
#ifndef DESCRIPTION
#define DESCRIPTION R"({"names": ["W", "b"], "shapes": [[2, 3], [2]],)" \
    R"("dtype": ")" DTYPE R"(", "steps": 3})"
#endif
#ifndef IN_LOSS
#define IN_LOSS
#endif
#ifndef IN_GRADIENT
#define IN_GRADIENT
#endif

static size_t T = 3;

const char *tt_describe() { return DESCRIPTION; }

double tt_loss(const void *parameters, size_t count) {
    auto w = static_cast<const REAL *>(parameters);
    double loss = 0;
    IN_LOSS;
    for (size_t j = 0; j < count; j++) loss += double(w[j]) * w[j] * w[j] * (T * (T + 1) / 2);
    return loss;
}

#ifndef WITHOUT_GRADIENT
void tt_gradient(const void *parameters, void *gradient, size_t count) {
    auto w = static_cast<const REAL *>(parameters);
    auto g = static_cast<REAL *>(gradient);
    for (size_t j = 0; j < count; j++) g[j] = 3 * w[j] * w[j] * (T * (T + 1) / 2);
    IN_GRADIENT;
}
#endif

#ifdef OPTIONAL
void tt_reset() { std::puts("reset"); }
int tt_set_length(size_t steps) { return steps > 5 || !(T = steps); }
void tt_initial(void *parameters, size_t count) {
    for (size_t j = 0; j < count; j++) static_cast<REAL *>(parameters)[j] = 0.5 + j;
}
#endif
"""


def compiled(source, folder, *definitions, name="libmine.so"):
    out = folder / name
    flags = [f"-D{definition}" for definition in definitions]
    shared = ["-shared", "-fPIC"] if name.endswith(".so") else []
    words = [COMPILER, "-O0", *shared, f"-I{INCLUDE}", *flags, str(source), "-o", str(out)]
    subprocess.run(words, check=True)
    return str(out)


@pytest.fixture
def library(tmp_path):
    """Compiles the source with some definitions; returns the library's path."""
    source = tmp_path / "mine.cpp"
    source.write_text(SOURCE)
    return lambda *definitions: compiled(source, tmp_path, *definitions)


def message(path, **options):
    with pytest.raises(tt.CheckError) as problem:
        tt.check(path, **options)
    return str(problem.value).replace(path, "L")


def test_a_right_library_agrees(library):
    report = tt.check(library())
    assert report.verdict == "agree"
    assert report.dtype == "float64"
    assert report.steps == 3
    assert tt.check(library("REAL=float", 'DTYPE="float32"')).verdict == "agree"


def test_optional_functions_are_used(library):
    with tt.library_target(library("OPTIONAL")) as target:
        assert target.parameters.flat.tolist() == [0.5 + j for j in range(8)]
        assert target.reset is not None
        with pytest.raises(tt.CheckError, match=r"expected 0, got no data for 6 steps$"):
            target.at_length(6)
        w = target.parameters.flat
        assert target.at_length(1).loss() == pytest.approx((w**3).sum(), rel=1e-15)
        assert target.at_length(2).gradient()["b"] == pytest.approx(9 * w[6:] ** 2, rel=1e-15)
        assert target.loss() == pytest.approx(6 * (w**3).sum(), rel=1e-15)
        assert tt.check(target).verdict == "agree"


FAULTS = [
    ("IN_LOSS=*(volatile int*)8=1", "L: died with SIGSEGV in tt_loss"),
    ("IN_GRADIENT=*(volatile int*)8=1", "L: died with SIGSEGV in tt_gradient"),
    (
        'IN_LOSS=throw std::out_of_range("vector::at")',
        "L: died with SIGABRT in tt_loss; its last words on standard error:\n"
        "    terminate called after throwing an instance of 'std::out_of_range'\n"
        "      what():  vector::at",
    ),
    (
        'IN_LOSS=std::puts("no data.csv"),std::exit(5)',
        "L: ended with exit status 5 in tt_loss; its last words on standard error:\n"
        "    no data.csv",
    ),
    (
        'IN_GRADIENT=std::puts("step 7"),std::abort()',
        "L: died with SIGABRT in tt_gradient; its last words on standard error:\n    step 7",
    ),
    ("DESCRIPTION=nullptr", "L: tt_describe: expected JSON, got NULL (…"),
    ('DESCRIPTION="{names: 1}"', "L: tt_describe: expected JSON, got '{names: 1}' (…"),
    ('DESCRIPTION="[1]"', "L: tt_describe: expected a JSON object, got '[1]'"),
    ('DESCRIPTION="{}"', "L: description: expected the keys names, shapes and dtype, …"),
    (
        r'''OPTIONAL & DESCRIPTION=R"({"names": ["w"], "shapes": [[8]], "dtype": "float64"})"''',
        "L: description: steps: expected a number of steps, since set_length changes it, got None",
    ),
    ('DTYPE="float128"', "L: description: dtype: expected float32 or float64, got 'float128'"),
    (
        "WITHOUT_GRADIENT",
        "L: expected the functions tt_describe, tt_loss, tt_gradient, got no tt_gradient; "
        'in C++ declare them extern "C", as throughtime.h does',
    ),
    (
        "IN_GRADIENT=g[count]=1",
        "L: tt_gradient: expected to write within the array, wrote past its end",
    ),
    (
        "IN_GRADIENT=g[-1]=1",
        "L: tt_gradient: expected to write within the array, wrote before its start",
    ),
    ("IN_GRADIENT=g[count+512]=1", "L: died with SIGSEGV in tt_gradient"),
    ("IN_GRADIENT=g[-1000]=1", "L: died with SIGSEGV in tt_gradient"),
    (
        "IN_GRADIENT=const_cast<REAL*>(static_cast<const REAL*>(parameters))[3]=1",
        "L: tt_gradient: expected to read the parameters alone, wrote into them",
    ),
    (
        "IN_LOSS=const_cast<REAL*>(static_cast<const REAL*>(parameters))[count]=1",
        "L: tt_loss: expected to write within the array, wrote past its end",
    ),
    (
        "IN_GRADIENT=for(;;)",
        "L: expected an answer within 2 s in tt_gradient, got none; "
        "flush each answer, or give it longer: timeout",
    ),
]


@pytest.mark.parametrize(("definition", "expected"), FAULTS)
def test_whatever_goes_wrong_is_one_clear_message(library, definition, expected):
    found = message(library(*definition.split(" & ")), timeout=2)
    assert found.startswith(expected.removesuffix("…"))
    assert found == expected or expected.endswith("…")


def test_a_gradient_that_is_not_set_is_noticed(tmp_path):
    source = tmp_path / "unset.cpp"
    source.write_text(SOURCE.replace("g[j] = ", "if (j != 2) g[j] = "))
    found = message(compiled(source, tmp_path))
    assert found == "L: gradient: expected all 8 numbers to be set, got 1 left as they were"


def test_what_is_no_library(tmp_path):
    assert message(str(tmp_path / "no.so")) == "library: expected an existing file, got L"
    (tmp_path / "text.so").write_text("hello")
    assert message(str(tmp_path / "text.so")).startswith("L: cannot be loaded: ")
    with pytest.raises(TypeError, match="check: expected a library alone, got a library and 1"):
        tt.check("some.so", 3)


def test_the_shortest_library_of_the_docs_in_strict_c(tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    page = (EXAMPLES.parents[1] / "docs" / "targets.md").read_text(encoding="utf-8")
    source, library = tmp_path / "plain.c", tmp_path / "plain.so"
    source.write_text(page.partition("```c\n")[2].partition("```")[0])
    strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", f"-I{INCLUDE}"]
    words = [compiler, *strict, "-shared", "-fPIC", str(source), "-o", str(library)]
    subprocess.run(words, check=True)
    assert tt.check(library).verdict == "agree"


@pytest.fixture(scope="module")
def lstm(tmp_path_factory):
    """The example, right and averaged over its steps, as libraries and as programs."""
    folder = tmp_path_factory.mktemp("lstm")
    return {
        (kind, fault): compiled(EXAMPLES / source, folder, *fault, name=f"{fault}{name}")
        for kind, source, name in [
            ("library", "lstm.cpp", "lstm.so"),
            ("program", "lstm_program.cpp", "lstm"),
        ]
        for fault in [(), ("AVERAGE_OVER_STEPS",)]
    }


@pytest.mark.parametrize("kind", ["library", "program"])
@pytest.mark.parametrize("fault", [(), ("AVERAGE_OVER_STEPS",)])
def test_the_lstm_of_the_examples(lstm, kind, fault, capfd, tmp_path):
    words = ["--program"] if kind == "program" else []
    report = tmp_path / "report.json"
    status = main(["check", "--json", str(report), *words, lstm[kind, fault]])
    out = capfd.readouterr().out
    assert status == (1 if fault else 0)
    assert out.startswith("DISAGREE" if fault else "AGREE")
    assert "float32, T = 39; " in out
    if fault:
        found = json.loads(report.read_text())
        assert found["discrepancy"] == pytest.approx(0.95, abs=1e-5)  # (T − 1) / (T + 1)
        # The data are recovered from float32 losses, too coarsely for a mutant to fit to rounding.
        assert [cause["fault"] for cause in found["causes"]] == ["averaged_over_steps"]
        assert found["causes"][0]["confidence"] > 0.9
        assert "unknown" not in out
    if kind == "library":
        page = (EXAMPLES.parents[1] / "docs" / "tutorial-own-cpp.md").read_text("utf-8")
        blocks = re.findall(r"```text\n.*?```", page, re.DOTALL)
        (block,) = [block for block in blocks if ("DISAGREE" in block) == bool(fault)]
        assert quoted(block, out) == 1


def test_a_mistake_in_single_precision_is_named(tmp_path):
    """The data are recovered from float32 losses: no mutant fits to rounding, and none is refuted.

    What the cell state carries back is lost.
    """
    source = (EXAMPLES / "lstm.cpp").read_text("utf-8")
    wrong = source.replace("dc[k] *= f;", "dc[k] = 0;")
    assert wrong != source
    (tmp_path / "wrong.cpp").write_text(wrong, "utf-8")
    with tt.library_target(compiled(tmp_path / "wrong.cpp", tmp_path)) as target:
        report = tt.check(target)
    assert [cause.fault for cause in report.causes] == ["dc_next_missing"]
    assert report.causes[0].confidence > 0.9
    assert "gives this gradient to 0.00" in report.causes[0].evidence[0]


def test_the_readme_s_commands_say_what_the_readme_says(tmp_path):
    readme = (EXAMPLES.parents[1] / "README.md").read_text(encoding="utf-8")
    _, compiling, said = re.split(r"^\$ (?=c\+\+|throughtime check \./)", readme, flags=re.M)
    shutil.copy(EXAMPLES / "lstm.cpp", tmp_path)
    compiling = compiling.strip().replace("c++", COMPILER, 1)
    compiling = compiling.replace("$(throughtime check --include)", str(INCLUDE))
    subprocess.run(compiling, shell=True, check=True, cwd=tmp_path)
    command, first, second, *_ = said.splitlines()
    found = subprocess.run(
        [sys.executable, "-m", *command.split()], capture_output=True, text=True, cwd=tmp_path
    )
    assert found.returncode == 1
    for line, begins in zip(found.stdout.splitlines(), (first, second), strict=False):
        assert line.startswith(begins.removesuffix("…"))


def test_the_lstm_has_the_gradient_of_this_package_s(lstm):
    """The same equations written twice, in other gate orders."""
    with tt.library_target(lstm["library", ()]) as target:
        p, found, loss = target.parameters.copy(), target.gradient(), target.loss()
    net = tt.Network([tt.LSTM(5, 5), tt.Dense(5, 5)], tt.SoftmaxCrossEntropy(time="sum"))
    order = np.r_[0:10, 15:20, 10:15]  # i, f, o, a -> i, f, a, o
    for ours, theirs in (("W", "W"), ("U", "U"), ("b", "b")):
        net.parameters[f"0.{ours}"] = p[theirs][order]
    net.parameters["1.W"], net.parameters["1.b"] = p["V"], p["d"]
    t, k = np.arange(39), np.arange(5)
    inputs = np.sin(0.7 * t[:, None] + 1.3 * k**2).astype(np.float32)[:, None]
    value, gradient = net.loss_and_gradient(inputs, ((3 * t + t // 4) % 5)[:, None])
    assert loss == pytest.approx(value, rel=1e-6)
    assert found["U"][order] == pytest.approx(gradient["0.U"], rel=1e-4, abs=1e-5)
    assert found["V"] == pytest.approx(gradient["1.W"], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("kind", ["library", "program"])
def test_a_library_and_a_program_may_have_a_layout(lstm, kind):
    t, k = np.arange(39), np.arange(5)
    inputs = np.sin(0.7 * t[:, None] + 1.3 * k**2)
    layout = tt.layouts.guess(inputs, (3 * t + t // 4) % 5)
    built = lstm[kind, ("AVERAGE_OVER_STEPS",)]
    if kind == "library":
        made = tt.library_target(built, layout=layout)
    else:
        made = tt.program_target([built], layout=layout)
    with made as target:
        report = tt.check(target)
    assert any(
        note.startswith("The layout was guessed, and has your loss: lstm(order='ifog', W='W'")
        for note in report.notes
    )
    assert [cause.fault for cause in report.causes] == ["averaged_over_steps"]
    assert report.causes[0].confidence > 0.9
