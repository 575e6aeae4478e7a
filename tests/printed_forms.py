"""Gradients as checkers and people print them, each with which is which and what is expected.

`PASTED` are short texts whose gradient is half of the numerical one, in every entry; `STYLES` print
any two arrays.
"""

from __future__ import annotations

import numpy as np

# name: the text, how many pairs, and whether it says which of the two is the numerical one.
PASTED = {
    "headings above": (
        """
          Numerical gradient      Backprop gradient
          ------------------      -----------------
               0.00431236              0.00215618
              -0.01929142             -0.00964571
               0.03128394              0.01564197
        """,
        3,
        True,
    ),
    "CS231n": (
        "numerical: 15.223000 analytic: 7.611500, relative error: 3.333333e-01\n"
        "numerical: -0.250000 analytic: -0.125000, relative error: 3.333333e-01\n"
        "numerical: 0.800000 analytic: 0.400000, relative error: 3.333333e-01\n",
        3,
        True,
    ),
    "torch.autograd.gradcheck": (
        "torch.autograd.gradcheck.GradcheckError: Jacobian mismatch for output 0 with respect to "
        "input 0,\n"
        "numerical:tensor([[ 1.0000,  2.0000],\n        [-3.0000,  4.0000]], dtype=torch.float64)\n"
        "analytical:tensor([[ 0.5000,  1.0000],\n        [-1.5000,  2.0000]], dtype=torch.float64)",
        4,
        True,
    ),
    "the same in a pytest report": (
        "E   numerical:tensor([[ 194.6154,  196.2852],\nE           [  -5.7878,  -14.1088]])\n"
        "E   analytical:tensor([[ 97.3077,  98.1426],\nE           [  -2.8939,  -7.0544]])\n",
        4,
        True,
    ),
    "torch, with a factor in front and entries left out": (
        "numerical:tensor(1.00000e-02 *\n       [[ 1.2340],\n        ...,\n        [-2.5000],\n"
        "        [ 8.0000]])\n"
        "analytical:tensor(1.00000e-03 *\n       [[ 6.1700],\n        ...,\n        [-12.5000],\n"
        "        [ 40.0000]])",
        3,
        True,
    ),
    "assert_allclose": (
        "AssertionError: \nNot equal to tolerance rtol=1e-07, atol=0\n\n"
        "Mismatched elements: 3 / 3 (100%)\nMax absolute difference: 1.5\n"
        " ACTUAL: array([0.51, 1.  , 1.5 ])\n DESIRED: array([1.02, 2.  , 3.  ])\n",
        3,
        True,
    ),
    "assert_allclose of NumPy 2, as JAX's check_grads raises it": (
        "AssertionError: \nNot equal to tolerance rtol=0.002, atol=0.002\n"
        "VJP cotangent projection\nMismatched elements: 3 / 3 (100%)\n"
        "First 3 mismatches are at indices:\n"
        " [0]: 0.0617 (ACTUAL), 0.1234 (DESIRED)\n [1]: -0.125 (ACTUAL), -0.25 (DESIRED)\n"
        " ACTUAL: array([ 0.0617, -0.125 ,  0.4   ], dtype=float32)\n"
        " DESIRED: array([ 0.1234, -0.25 ,  0.8  ], dtype=float32)",
        3,
        True,
    ),
    "assert_allclose of older NumPy": (
        "(mismatch 100.0%)\n x: array([0.51, 1.  , 1.5 ])\n y: array([1.02, 2.  , 3.  ])\n",
        3,
        True,
    ),
    "Chainer": (
        "gradients (numeric):  [[0.1234 0.25]\n [0.8 0.1]]\n"
        "gradients (backward): [[0.0617 0.125]\n [0.4 0.05]]\n\n"
        "x: numeric gradient, y: backward gradient",
        4,
        True,
    ),
    "TensorFlow, with words": (
        "theoretical, numerical = ([[0.0617, -0.125, 0.4]], [[0.1234, -0.25, 0.8]])",
        3,
        True,
    ),
    "TensorFlow's tuple": (
        "([array([[0.0617, -0.125, 0.4]], dtype=float32)], "
        "[array([[0.1234, -0.25, 0.8]], dtype=float32)])",
        3,
        False,
    ),
    "CNTK": (
        "db Numeric gradient = 1.485961e+06, Error BP gradient = 7.429805e+05\n"
        "db Numeric gradient = 2.485961e+05, Error BP gradient = 1.2429805e+05\n"
        "db Numeric gradient = -2.0e+06, Error BP gradient = -1.0e+06\n",
        3,
        True,
    ),
    "min-char-rnn": (
        "Wxh\n-0.152230, -0.076115 => 3.333333e-01 \n0.100000, 0.050000 => 3.333333e-01 \n"
        "0.300000, 0.150000 => 3.333333e-01 \n",
        3,
        True,
    ),
    "MATLAB, two columns": (
        "   1.0e-03 *\n\n    0.1234    0.0617\n   -0.2000   -0.1000\n    0.5000    0.2500\n\n"
        "The above two columns you get should be very similar.\n"
        "(Left-Your Numerical Gradient, Right-Analytical Gradient)\n",
        3,
        True,
    ),
    "MATLAB, two vectors": (
        "numgrad =\n\n    0.1000\n    0.2000\n   -0.3000\n\n\ngrad =\n\n    0.0500\n    0.1000\n"
        "   -0.1500\n\n",
        3,
        True,
    ),
    "Julia": (
        "julia> [numgrad grad]\n3×2 Matrix{Float64}:\n  0.1234   0.0617\n -0.25    -0.125\n"
        "  0.8      0.4\n",
        3,
        True,
    ),
    "R": (
        "     numeric analytic\n[1,]  0.1234   0.0617\n[2,] -0.2500  -0.1250\n"
        "[3,]  0.8000   0.4000",
        3,
        True,
    ),
    "deeplearning.ai": (
        "grad = [[0.0617]\n [-0.125 ]\n [0.4   ]]\ngradapprox = [[0.1234]\n [-0.25 ]\n [0.8   ]]",
        3,
        True,
    ),
    "dicts": (
        "numerical: {'dW1': array([[0.1234, 0.4], [0.6, 0.8]]), 'db1': array([[1.]])}\n"
        "backprop: {'dW1': array([[0.0617, 0.2], [0.3, 0.4]]), 'db1': array([[0.5]])}",
        5,
        True,
    ),
    "JSON": (
        '{"numerical": {"W": [[0.1234, -0.25], [0.8, 0.1]], "b": [0.5]}, '
        '"analytic": {"W": [[0.0617, -0.125], [0.4, 0.05]], "b": [0.25]}}',
        5,
        True,
    ),
    "a gradient check that prints five lines for each entry": (
        "Performing gradient check for parameter U with size 100.\n"
        + "".join(
            f"Gradient Check ERROR: parameter=U ix=(0, {k})\n+h Loss: 66.123456\n"
            f"-h Loss: 66.123400\nEstimated_gradient: {n:.6f}\n"
            f"Backpropagation gradient: {n / 2:.6f}\nRelative Error: 0.333333\n"
            for k, n in enumerate((0.028, 0.128, -0.228))
        ),
        3,
        True,
    ),
    "a table in Markdown": (
        "| index | analytic | numeric | rel. error |\n|---|---:|---:|---:|\n"
        "| 0 | 0.0617 | 0.1234 | 0.33 |\n| 1 | -0.125 | -0.25 | 0.33 |\n| 2 | 0.4 | 0.8 | 0.33 |",
        3,
        True,
    ),
    "tabs": (
        "param\tfd\tautograd\tdiff\nW\t0.1234\t0.0617\t0.0617\nW\t0.4\t0.2\t0.2\nb\t0.5\t0.25\t0.25",
        3,
        True,
    ),
    "decimal commas": (
        "numerisch; analytisch\n0,1234; 0,0617\n-0,25; -0,125\n0,8; 0,4\n",
        3,
        True,
    ),
    "a data frame": (
        "    param  analytic  numerical  rel_err\n0  W[0,0]  0.061700   0.123400   0.3333\n"
        "1  W[0,1] -0.125000  -0.250000   0.3333\n2  W[1,0]  0.400000   0.800000   0.3333\n",
        3,
        True,
    ),
    "a log": (
        "2024-01-02 12:00:01,123 INFO check: W[0][0] num=1.2340e-02 bp=6.1700e-03 diff=6e-03\n"
        "2024-01-02 12:00:01,124 INFO check: W[0][1] num=-5.000e-02 bp=-2.5000e-02 diff=2e-02\n"
        "2024-01-02 12:00:01,125 INFO check: W[0][2] num=8.0000e-02 bp=4.0000e-02 diff=4e-02\n",
        3,
        True,
    ),
    "files and lines": (
        "[src/main.rs:42] num = 0.1234\n[src/main.rs:43] ana = 0.0617\n"
        "[src/main.rs:42] num = -0.25\n[src/main.rs:43] ana = -0.125\n"
        "[src/main.rs:42] num = 0.8\n[src/main.rs:43] ana = 0.4\n",
        3,
        True,
    ),
    "sentences": (
        "the numerical gradient is 0.1234 and the gradient from backprop is 0.0617\n"
        "the numerical gradient is -0.25 and the gradient from backprop is -0.125\n"
        "the numerical gradient is 0.8 and the gradient from backprop is 0.4\n",
        3,
        True,
    ),
    "a question": (
        "I computed the gradient numerically and got [0.1234, -0.25, 0.8] while backprop gives "
        "[0.0617, -0.125, 0.4]. What's wrong?",
        3,
        True,
    ),
    "expected and actual": (
        "Expected: 0.1234\nActual: 0.0617\nExpected: -0.25\nActual: -0.125\nExpected: 0.8\n"
        "Actual: 0.4\n",
        3,
        True,
    ),
    "one's own beside torch's": (
        "W_hh.grad mine:\n[[ 0.0617 -0.125 ]\n [ 0.4     0.05  ]]\nW_hh.grad torch:\n"
        "tensor([[ 0.1234, -0.2500],\n        [ 0.8000,  0.1000]])\n",
        4,
        True,
    ),
    "in one order and the other": (
        "analytic: 0.0617 numerical: 0.1234\nnumerical: -0.25 analytic: -0.125\n"
        "analytic: 0.4 numerical: 0.8\n",
        3,
        True,
    ),
    "NumPy's scalars": (
        "numerical np.float64(0.1234) backprop np.float64(0.0617)\n"
        "numerical np.float64(-0.25) backprop np.float64(-0.125)\n"
        "numerical np.float64(0.8) backprop np.float64(0.4)\n",
        3,
        True,
    ),
    "a quotient": (
        "backprop / numerical = 0.0617 / 0.1234 = 0.5\n"
        "backprop / numerical = -0.125 / -0.25 = 0.5\nbackprop / numerical = 0.4 / 0.8 = 0.5\n",
        3,
        True,
    ),
    "glued": (
        "numerical backprop\n-0.1234-0.0617\n-0.25-0.125\n-8.0e-01-4.0e-01\n",
        3,
        True,
    ),
    "layers in blocks": (
        "Gradient checking...\nLayer 1 W:\n  numeric:  [0.1234 -0.25 0.8]\n"
        "  analytic: [0.0617 -0.125 0.4]\nLayer 1 b:\n  numeric:  [0.5 0.25]\n"
        "  analytic: [0.25 0.125]\nFAILED!!!\n",
        5,
        True,
    ),
    "a numbered list": (
        "1. numeric=0.1234 analytic=0.0617\n2. numeric=-0.25 analytic=-0.125\n"
        "3. numeric=0.8 analytic=0.4\n",
        3,
        True,
    ),
    "rows for columns": (
        "| numeric | 0.1234 | -0.25 | 0.8 |\n|---|---|---|---|\n"
        "| analytic | 0.0617 | -0.125 | 0.4 |\n",
        3,
        True,
    ),
    "a library's beside both": (
        "numeric backprop autograd\n0.1234 0.0617 0.1234\n-0.25 -0.125 -0.25\n0.8 0.4 0.8\n",
        3,
        True,
    ),
    "Go": (
        "gradient_test.go:31: dW[0]: got 0.0617, want 0.1234\n"
        "gradient_test.go:31: dW[1]: got -0.125, want -0.25\n"
        "gradient_test.go:31: dW[2]: got 0.4, want 0.8\n",
        3,
        True,
    ),
    "Chinese": (
        "数值梯度: 0.1234 解析梯度: 0.0617\n数值梯度: -0.25 解析梯度: -0.125\n"
        "数值梯度: 0.8 解析梯度: 0.4\n",
        3,
        True,
    ),
    "a table with a frame": (
        "+-------+---------+----------+\n| param | numeric | analytic |\n"
        "+-------+---------+----------+\n| W_00  | 0.1234  | 0.0617   |\n"
        "| W_01  | -0.25   | -0.125   |\n| W_02  | 0.8     | 0.4      |\n",
        3,
        True,
    ),
    "minus signs and powers of ten": (
        "numerical backprop\n−0.1234 −0.0617\n2.5×10⁻⁵ 1.25×10⁻⁵\n8.0*10^-2 4.0*10^-2\n",
        3,
        True,
    ),
    "a pair in two lines": (
        "numerical backprop\n0.1234\n0.0617\n-0.25\n-0.125\n0.8\n0.4\n",
        3,
        True,
    ),
    "percent": (
        "numerical backprop error\n0.1234 0.0617 50.0%\n-0.25 -0.125 50.0%\n0.8 0.4 50.0 %\n",
        3,
        True,
    ),
    "GoogleTest": (
        "".join(
            "grad_test.cc:31: Failure\n"
            f"The difference between numeric and analytic is {abs(n) / 2:g}, which exceeds 1e-4, "
            f"where\nnumeric evaluates to {n:g},\nanalytic evaluates to {n / 2:g}, and\n"
            "1e-4 evaluates to 0.0001.\n"
            for n in (0.1234, -0.25, 0.8)
        ),
        3,
        True,
    ),
    "pytest's table": (
        "E       Mismatched elements: 3 / 3:\nE       Max absolute difference: 0.4\n"
        "E       Index | Obtained | Expected       \nE       (0,)  | 0.0617   | 0.1234 ± 1.2e-07\n"
        "E       (1,)  | -0.125   | -0.25 ± 2.5e-07\nE       (2,)  | 0.4      | 0.8 ± 8.0e-07\n",
        3,
        True,
    ),
    "decimal commas, one to a line": (
        "numerical: 0,1234\nanalytic: 0,0617\nnumerical: -0,25\nanalytic: -0,125\n"
        "numerical: 0,8\nanalytic: 0,4\n",
        3,
        True,
    ),
    "decimal commas with commas between": (
        "numerical, analytic\n0,1234, 0,0617\n-0,25, -0,125\n0,8, 0,4\n",
        3,
        True,
    ),
    "decimal commas in brackets": (
        "W[0,12] numerical = [0,1234, -0,25, 0,8]\nW[0,12] analytic = [0,0617, -0,125, 0,4]\n",
        3,
        True,
    ),
    "LaTeX": (
        "\\begin{tabular}{lrr}\nparameter & numerical & backprop \\\\ \\hline\n"
        "$W_{xh}$ & $0.1234$ & $0.0617$ \\\\\n$b$ & $8.0 \\times 10^{-1}$ & $0.4$ \\\\\n"
        "$b$ & -0.25 & -0.125 \\\\\n\\end{tabular}\n",
        3,
        True,
    ),
    "gradcheck in its fast mode": (
        "GradcheckError: Jacobian mismatch for output 0 with respect to input 0,\n"
        "numerical:tensor(1.5602, dtype=torch.float64)\n"
        "analytical:tensor(0.7801, dtype=torch.float64)\n\nThe above quantities relating the "
        "numerical and analytical jacobians are computed \nin fast mode. Below, we recompute "
        "numerical and analytical jacobians in slow mode:\n\nNumerical:\n tensor([[0.8422, 0.1000],"
        "\n        [0.2200, 0.6422]])\nAnalytical:\ntensor([[0.4211, 0.0500],\n"
        "        [0.1100, 0.3211]])\n\nThe max per-element difference (slow mode) is: 0.4211.\n",
        5,
        True,
    ),
    "a data frame whose middle is left out": (
        "     numerical  analytic\n0       0.1234    0.0617\n1      -0.2500   -0.1250\n"
        "...        ...       ...\n999     0.3000    0.1500\n\n[1000 rows x 2 columns]\n",
        3,
        True,
    ),
    "versus": (
        "W[0,1]: 0.0617 vs 0.1234\nW[0,0]: 0.15 vs 0.3\nW[1,0]: -0.125 vs -0.25\n"
        "W[1,1]: 0.4 vs 0.8\n",
        4,
        False,
    ),
    "two arrays": ("[0.0617 -0.125 0.4]\n[0.1234 -0.25 0.8]\n", 3, False),
    "two matrices": ("0.0617 -0.125\n0.05 0.25\n\n0.1234 -0.25\n0.1 0.5\n", 4, False),
    "HTML": (
        "<tr><td>0</td><td>0.0617</td><td>0.1234</td></tr>\n"
        "<tr><td>1</td><td>-0.125</td><td>-0.25</td></tr>\n"
        "<tr><td>2</td><td>0.4</td><td>0.8</td></tr>",
        3,
        False,
    ),
}


def _error(g, n):
    return abs(g - n) / max(abs(g), abs(n), 1e-12)


def _one_line(g, n, f):
    flat = " ".join(f"{f(b)} {f(a)}" for a, b in zip(g.flat, n.flat, strict=True))
    return f"numerical:    backpropped:\n{flat}\n"


def _rows(heading, before="", after=""):
    def style(g, n, f):
        lines = [heading] if heading else []
        for (i, j), a in np.ndenumerate(g):
            b = n[i, j]
            parts = {"i": i, "j": j, "k": i * g.shape[1] + j, "error": _error(a, b), "apart": a - b}
            line = f"{before} {f(a)} {f(b)} {after}" if "{" not in before else before
            lines.append(line.format(g=f(a), n=f(b), **parts).strip())
        return "\n".join(lines)

    return style


def _arrays(form):
    return lambda g, n, f: form.format(
        g=repr(g), n=repr(n), g_torch=_torch(g, f), n_torch=_torch(n, f), g_str=g, n_str=n
    )


def _torch(array, f):
    rows = ",\n        ".join("[" + ", ".join(map(f, row)) + "]" for row in array)
    return f"tensor([{rows}], dtype=torch.float64)"


STYLES = {
    "one line": _one_line,
    "rows": _rows("analytic numeric"),
    "CS231n": _rows("", "numerical: {n} analytic: {g}, relative error: {error:e}"),
    "min-char-rnn": _rows("", "{n}, {g} => {error:e} "),
    "indexed": _rows("entry grad numgrad", "W[{i},{j}]: {g} vs {n}"),
    "Markdown": _rows(
        "| i | finite difference | autograd | rel error |\n|--|--|--|--|",
        "| {k} | {n} | {g} | {error:.2e} |",
    ),
    "CSV": _rows("index,expected,actual,diff", "{k},{n},{g},{apart:g}"),
    "tabs": _rows("fd\tmine", "{n}\t{g}"),
    "without a heading": _rows(""),
    "gradcheck": _arrays(
        "Jacobian mismatch for output 0 with respect to input 0,\nnumerical:{n_torch}\n"
        "analytical:{g_torch}\n"
    ),
    "assert_allclose": _arrays(
        "Not equal to tolerance rtol=1e-07, atol=0\n\nMax absolute difference: 0.1\n"
        " ACTUAL: {g}\n DESIRED: {n}"
    ),
    "deeplearning.ai": _arrays("grad = {g_str}\ngradapprox = {n_str}\n"),
    "dicts": _arrays("numerical: {{'W': {n}}}\nanalytical: {{'W': {g}}}"),
    "a tuple": _arrays("([{g}], [{n}])"),
}

FORMATS = {
    "%f": lambda value: f"{value:.6f}",
    "%e": lambda value: f"{value:.4e}",
    "%g": lambda value: f"{value:g}",
    "repr": lambda value: repr(float(value)),
}
