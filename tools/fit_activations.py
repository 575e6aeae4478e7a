"""Fits the constants of activations.hpp and prints them as C++.

The header reduces y = n·ln 2 + r, |r| ≤ ln 2 / 2, and needs expm1(r) = r + r²·c(r). The polynomial
c is fitted here so that the largest *relative* error of expm1(r) is as small as its degree allows:
least squares on Chebyshev nodes whose weights are raised where the error is large (Lawson's
iteration, which tends to the minimax polynomial). ln 2 is split into a high part, so short that its
product with any n that occurs is exact, and the remainder.

    python fit_activations.py
"""

import mpmath as mp

mp.mp.dps = 60

# C++ type: (bits of precision, degree of c, bits that hold any n)
TYPES = {"float": (24, 4, 9), "double": (53, 9, 12)}
HALF_WIDTH = mp.log(2) / 2 * (1 + mp.mpf(2) ** -12)  # n comes from a rounded product
NODES = 200


def chebyshev_nodes(count: int) -> list[mp.mpf]:
    """Chebyshev nodes on ±HALF_WIDTH; an even count avoids r = 0."""
    return [HALF_WIDTH * mp.cos(mp.pi * (2 * k + 1) / (2 * count)) for k in range(count)]


def relative_errors(coefficients: list[mp.mpf], nodes: list[mp.mpf]) -> list[mp.mpf]:
    """(r + r²·c(r)) / expm1(r) - 1 at each node, for coefficients from the constant upwards."""
    top_down = coefficients[::-1]
    return [(r + r * r * mp.polyval(top_down, r)) / mp.expm1(r) - 1 for r in nodes]


def weighted_least_squares(degree: int, nodes: list[mp.mpf], weights: list[mp.mpf]) -> list[mp.mpf]:
    """The c with the smallest weighted mean square of relative_errors."""
    rows = mp.matrix(len(nodes), degree + 1)
    target = mp.matrix(len(nodes), 1)
    for i, (r, weight) in enumerate(zip(nodes, weights, strict=True)):
        scale = mp.sqrt(weight) / mp.expm1(r)
        target[i] = scale * (mp.expm1(r) - r)
        for k in range(degree + 1):
            rows[i, k] = scale * r ** (k + 2)
    return list(mp.lu_solve(rows.T * rows, rows.T * target))


def fit(degree: int, iterations: int = 30) -> list[mp.mpf]:
    """The coefficients of c, the constant first, by Lawson's iteration."""
    nodes = chebyshev_nodes(NODES)
    weights = [mp.mpf(1) / NODES] * NODES
    best, best_error = [], mp.inf
    for _ in range(iterations):
        coefficients = weighted_least_squares(degree, nodes, weights)
        errors = [abs(e) for e in relative_errors(coefficients, nodes)]
        if max(errors) < best_error:
            best, best_error = coefficients, max(errors)
        weights = [w * e for w, e in zip(weights, errors, strict=True)]
        total = sum(weights)
        weights = [w / total for w in weights]
    return best


def rounded(x: mp.mpf, bits: int) -> mp.mpf:
    """x, rounded to that many bits."""
    with mp.workprec(bits):
        return +x


def literal(x: mp.mpf, name: str) -> str:
    """x as a C++ hexadecimal constant."""
    mantissa, exponent = float(x).hex().split("p")
    return mantissa.rstrip("0").rstrip(".") + "p" + exponent + ("f" if name == "float" else "")


def main() -> None:
    """Prints the constants of both types and the errors that they achieve."""
    nodes = chebyshev_nodes(2000)
    for name, (precision, degree, n_bits) in TYPES.items():
        fitted = fit(degree)
        kept = [rounded(c, precision) for c in fitted]
        high = rounded(mp.log(2), precision - n_bits)
        low = rounded(mp.log(2) - high, precision)
        worst = [
            mp.nstr(max(abs(e) for e in relative_errors(c, nodes)) * 2**precision, 3)
            for c in (fitted, kept)
        ]
        print(
            f"// {name}: relative error of expm1(r) {worst[0]}, "
            f"with rounded coefficients {worst[1]} times 2^-{precision}"
        )
        print("LOG2_E =", literal(rounded(1 / mp.log(2), precision), name))
        print(f"LN2_HIGH = {literal(high, name)}, LN2_LOW = {literal(low, name)}")
        print("C[] = {" + ", ".join(literal(c, name) for c in kept[::-1]) + "}")


if __name__ == "__main__":
    main()
