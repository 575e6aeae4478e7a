"""The flow through a JAX function that makes one step, `step(parameters, state, x) -> (state, y)`.

Nothing is known of its equations: JAX differentiates each step, and the gradients of all losses go
back through it side by side, rows (L, B, n) by lag, scaled as in `lag_by_lag`. What a step gives
does not depend on the state after it, but on the one that it receives. So lag 0 is the state that
step t receives, and lag l the one that step t − l receives.

JAX is imported when a flow is asked for, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, cast

import numpy as np

from throughtime.arrays import Array, all_finite, positive, real, refuse
from throughtime.gradient_flow.advice import Advice, advise_truncation, truncation_bias
from throughtime.gradient_flow.analyse import shares
from throughtime.gradient_flow.flow import (
    mean_norms,
    profile_of,
    spread_of,
    spread_over_sequences,
)
from throughtime.gradient_flow.jacobians import Linear, Lyapunov, lyapunov, singular_values
from throughtime.gradient_flow.lag_by_lag import LagNorms, rescaling, stretches, unscaled
from throughtime.gradient_flow.result import Flow, LayerFlow
from throughtime.gradient_flow.tolerances import (
    JACOBIAN_STATE,
    JACOBIANS,
    LONG_RUN,
    LONG_RUN_LAGS,
    LYAPUNOV_EXPONENTS,
    LYAPUNOV_NUMBERS,
    LYAPUNOV_STEPS,
    LYAPUNOV_TRANSIENT,
    SAME_SEED_ROUNDINGS,
)
from throughtime.gradient_flow.verdict import chained, decay, judge
from throughtime.parameters import Parameters
from throughtime.progress import begin, progress_bar

EXPECTED = "the loss of each step, (T,) or (T, B), which looks at the step's own output alone"


def step_flow(
    step: Callable[..., Any],
    parameters: Any,
    state: Any,
    xs: Any,
    *,
    loss: Callable[[Any], Any] | None = None,
    max_lag: int | None = None,
    tolerance: float = 0.1,
    memory: int | None = None,
    spectrum: bool = True,
    keep: bool = False,
    seed: int = 0,
    progress: bool | None = None,
) -> Flow:
    """Where the gradient goes through a JAX function that makes one step.

    Args:
        step: `step(parameters, state, x) -> (state, y)`, as for `jax.lax.scan`; the `apply` of a
            flax cell is one.
        parameters: a pytree.
        state: the first state, a pytree of floating-point arrays, (B, …) each or without B.
        xs: a pytree of arrays (T, …); step t receives what stands at t.
        loss: a function of all outputs ys (T, …), which returns the loss of each step, (T, B), or
            (T,), of one sequence or added up over them; where there is one at the end, 0 before.
        max_lag, tolerance, memory, spectrum, keep, seed, progress: as in `network_flow`.

    Returns:
        a Flow with one layer. "h" is the whole state, unless it is a dictionary with "h" in it;
        then each entry is a part. Lag l is the state that step t − l receives. Gates and paths are
        not known, and nothing is said about them.

    Raises:
        ValueError, TypeError: for a loss of another shape, or one that is not finite or looks at
            other steps' outputs.
    """
    asked = real("tolerance", tolerance)
    if not 0 < asked < 1:
        refuse("tolerance", "a relative bias between 0 and 1", tolerance)
    if loss is None:
        way_out = "loss=lambda ys: ((ys - targets) ** 2).mean(-1)"
        refuse("loss", f"a function of the outputs: {EXPECTED}", "none", way_out, TypeError)
    run = StepRun(step, parameters, state, xs, loss)
    far = (
        (run.steps - 1 if run.steps <= LONG_RUN else LONG_RUN_LAGS) if max_lag is None else max_lag
    )
    lags = min(positive("max_lag", far, 0), run.steps - 1) + 1
    starts = tuple(stretches(lags, run.size, coarse=run.steps > LONG_RUN))
    with progress_bar(0, "flow: following losses back", "steps", progress) as bar:
        begin(bar, "flow: following losses back through time", "steps", run.steps)
        norms, by_lag, kept = _followed(run, lags, starts, keep, bar)
    singular, exponents = np.zeros((0, 0)), None
    if spectrum:
        singular, exponents = _spectrum(run, seed)
    needed = None if memory is None else positive("memory", memory)
    layer = _layer(run, norms, singular, exponents, lags, needed)
    lost = truncation_bias(starts, by_lag, [], lags, run.steps, layer.decay)
    truncation = advise_truncation(lost, asked, layer.decay)
    whole = sum(by_lag[1:], by_lag[0])
    assert not isinstance(whole, int)
    notes: tuple[str, ...] = (
        "Lag l is the state that step t − l receives. Of a step function no gates and no paths "
        "are known.",
        "There is one group of sequences, so the bias has no confidence bound.",
    )
    if lags < run.steps:
        notes += (f"Lags beyond {lags - 1} were not looked at.",)
    return Flow(
        verdict=layer.verdict,
        reason=f"{layer.title(0)}: {layer.reason}",
        advice=Advice(truncation, None, None, needed, "" if needed is None else "given"),
        layers={0: layer},
        share_lags=np.array([*starts, lags]),
        shares=shares(by_lag, {}),
        bias=lost,
        ends=np.arange(run.steps),
        steps=run.steps,
        batch=run.batch,
        max_lag=lags - 1,
        loss=run.loss,
        gradient_norm=whole.norm(),
        dtype=str(run.dtype),
        notes=notes,
        gradients={0: kept} if keep else {},
    )


class StepRun:
    """One run of a step function, and the derivative of each of its steps.

    It has what `jacobians.Linear` has of a cell, as far as Jacobians need it.

    Attributes:
        steps, batch: T and B; B = 1 where the losses are not told apart by sequence.
        sizes: part of the state to its size, for one sequence.
        counted: (T, B), whether there is a loss.
        loss: of the whole run.
        size: how many parameters there are.
    """

    def __init__(
        self, step: Any, parameters: Any, state: Any, xs: Any, loss: Callable[[Any], Any]
    ) -> None:
        jax = import_module("jax")
        self.jax, self.step, self.parameters, self.xs = jax, step, parameters, xs
        leaves = jax.tree_util.tree_leaves
        self.steps = _length(leaves(xs))
        self._check_state(state)

        def scanned(before: Any, x: Any) -> Any:
            after, y = step(parameters, before, x)
            return after, (before, y)

        _, (self.befores, self.ys) = jax.lax.scan(scanned, state, xs)
        losses = np.asarray(loss(self.ys), np.float64)
        if losses.ndim not in (1, 2) or losses.shape[0] != self.steps:
            way_out = "where there is one loss at the end, give 0 for the steps before"
            actual = f"shape {losses.shape}"
            refuse("loss", f"{EXPECTED}, for T = {self.steps}", actual, way_out)
        if not all_finite(losses):
            refuse("loss", "finite numbers", "others")
        self.loss, self.batch = float(losses.sum()), losses.shape[1] if losses.ndim == 2 else 1
        self.form, self.shapes = jax.tree_util.tree_structure(state), []
        for leaf in leaves(state):
            shape = tuple(leaf.shape)
            if losses.ndim == 2 and shape[:1] != (self.batch,):
                refuse("state", f"arrays (B, …) with B = {self.batch}, as the losses", shape)
            self.shapes.append(shape)
        self.dtype = np.dtype(leaves(state)[0].dtype)
        self.sizes = self._parts(state)
        self.seeds = self._seeds(loss, losses)
        self.counted = self._counted(losses)
        self.size = sum(int(np.size(leaf)) for leaf in leaves(parameters))
        self._compile()

    def _check_state(self, state: Any) -> None:
        leaves = self.jax.tree_util.tree_leaves(state)
        kinds = sorted({str(getattr(leaf, "dtype", type(leaf).__name__)) for leaf in leaves})
        if kinds not in (["float32"], ["float64"]):
            expected = "a pytree of arrays, all float32 or all float64"
            refuse("state", expected, ", ".join(kinds) or "an empty one", error=TypeError)

    def _parts(self, state: Any) -> dict[str, int]:
        sizes = [int(np.prod(shape)) // self.batch for shape in self.shapes]
        if isinstance(state, Mapping) and "h" in state and len(state) == len(sizes):
            return dict(zip(sorted(state), sizes, strict=True))  # in the order of JAX's leaves
        return {"h": sum(sizes)}

    def _seeds(self, loss: Callable[[Any], Any], losses: Array) -> Any:
        """∂E_t/∂y_t, once it is known that each loss looks at its own step alone."""
        jax, numpy = self.jax, self.jax.numpy
        slopes = jax.grad(lambda ys, weights: (weights * loss(ys)).sum())
        plain = slopes(self.ys, numpy.ones(losses.shape))
        rng = np.random.default_rng(0)
        weights = np.ldexp(1.0, rng.integers(-7, 9, losses.shape))
        probe = slopes(self.ys, numpy.asarray(weights))
        leaves = jax.tree_util.tree_leaves
        for own, other in zip(leaves(plain), leaves(probe), strict=True):
            one, weighted = np.asarray(own, np.float64), np.asarray(other, np.float64)
            if not all_finite(one):
                refuse("loss", "finite derivatives", "others")
            ranks = (1,) * (one.ndim - losses.ndim)
            fits = one.shape[: losses.ndim] == losses.shape
            expected = one * weights.reshape(*losses.shape, *ranks) if fits else np.nan
            rounding = SAME_SEED_ROUNDINGS * np.finfo(self.dtype).eps
            if not (np.abs(weighted - expected) <= rounding * np.abs(expected)).all():
                refuse("loss", EXPECTED, "losses that look at others")
        return plain

    def _counted(self, losses: Array) -> Array:
        """A loss that is 0 and has no derivative is none."""
        found = losses.reshape(self.steps, self.batch) != 0
        for leaf in self.jax.tree_util.tree_leaves(self.seeds):
            array = np.asarray(leaf).reshape(self.steps, self.batch, -1)
            found |= (array != 0).any(axis=2)
        return np.asarray(found)

    def _compile(self) -> None:
        jax, numpy, step = self.jax, self.jax.numpy, self.step

        def apart(vector: Any) -> Any:
            sizes = [int(np.prod(shape)) // self.batch for shape in self.shapes]
            parts = numpy.split(vector, np.cumsum(sizes)[:-1], axis=1)
            arrays = [p.reshape(s) for p, s in zip(parts, self.shapes, strict=True)]
            return jax.tree_util.tree_unflatten(self.form, arrays)

        def together(state: Any) -> Any:
            leaves = jax.tree_util.tree_leaves(state)
            return numpy.concatenate([leaf.reshape(self.batch, -1) for leaf in leaves], axis=1)

        def at(parameters: Any, vector: Any, x: Any) -> Any:
            after, y = step(parameters, apart(vector), x)
            return together(after), y

        def back(before: Any, x: Any, rows: Any, dy: Any) -> Any:
            (after, _), pull = jax.vjp(lambda v: at(self.parameters, v, x), together(before))
            first = pull((numpy.zeros_like(after), dy))[0]
            none = jax.tree_util.tree_map(numpy.zeros_like, dy)
            return first, jax.vmap(lambda d: pull((d, none))[0])(rows)

        def slopes(before: Any, x: Any, rows: Any, dy: Any) -> Any:
            def own(parameters: Any) -> Any:
                return at(parameters, together(before), x)

            _, pull = jax.vjp(own, self.parameters)
            scaled = numpy.arange(rows.shape[0]) == 0  # the losses of the step itself: lag 0
            return jax.vmap(
                lambda d, w: pull((d, jax.tree_util.tree_map(lambda one: one * w, dy)))[0]
            )(rows, scaled.astype(rows.dtype))

        def moved(before: Any, x: Any, changes: Any) -> Any:
            def after(vector: Any) -> Any:
                return at(self.parameters, vector, x)[0]

            vector = together(before)
            return jax.vmap(lambda change: jax.jvp(after, (vector,), (change,))[1])(changes)

        self._back, self._slopes, self._moved = jax.jit(back), jax.jit(slopes), jax.jit(moved)

    def at_step(self, tree: Any, k: int) -> Any:
        """What belongs to step k."""
        return self.jax.tree_util.tree_map(lambda leaf: leaf[k], tree)

    def back(self, k: int, rows: Array) -> Array:
        """Rows (L, B, n) after step k, for lags 1 … L, to (L + 1, B, n) before it, from lag 0."""
        given = (self.at_step(self.befores, k), self.at_step(self.xs, k))
        first, others = self._back(*given, rows, self.at_step(self.seeds, k))
        return np.concatenate([np.asarray(first)[None], np.asarray(others)])

    def slopes(self, k: int, rows: Array) -> list[Array]:
        """The parameters' gradients at step k from rows (S, B, n) after it, by leaf, (S, …)."""
        given = (self.at_step(self.befores, k), self.at_step(self.xs, k))
        found = self._slopes(*given, rows, self.at_step(self.seeds, k))
        return [np.asarray(leaf) for leaf in self.jax.tree_util.tree_leaves(found)]

    def names(self) -> list[str]:
        """Of the parameters, by their place in the tree."""
        paths, _ = self.jax.tree_util.tree_flatten_with_path(self.parameters)
        keys = [self.jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
        return [key or "parameters" for key in keys]

    def vjp(self, k: int, later: Mapping[str, Array]) -> tuple[None, dict[str, Array]]:
        """As `Linear.vjp`, of the state alone."""
        rows = np.concatenate([later[part] for part in self.sizes], axis=2)
        return None, self.parted(self.back(k, rows)[1:])

    def jvp(self, k: int, change: Mapping[str, Array]) -> dict[str, Array]:
        """As `Linear.jvp`."""
        rows = np.concatenate([change[part] for part in self.sizes], axis=2)
        given = (self.at_step(self.befores, k), self.at_step(self.xs, k))
        return self.parted(np.asarray(self._moved(*given, rows)))

    def parted(self, rows: Array) -> dict[str, Array]:
        """Rows (…, n) by part of the state."""
        places = np.cumsum(list(self.sizes.values()))[:-1]
        return dict(zip(self.sizes, np.split(rows, places, axis=-1), strict=True))


def _length(leaves: list[Any]) -> int:
    sizes = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in leaves}
    if len(sizes) != 1 or 0 in sizes:
        actual = ", ".join(str(np.shape(leaf)) for leaf in leaves) or "an empty pytree"
        refuse("xs", "arrays (T, …) of the same T, which is 1 or more", actual)
    return int(sizes.pop())


def _followed(
    run: StepRun, lags: int, starts: tuple[int, ...], keep: bool, bar: Any
) -> tuple[dict[str, LagNorms], list[Parameters], dict[str, Array]]:
    """Norms by part, the parameters' gradients by stretch, and the gradients themselves."""
    n, T, B = sum(run.sizes.values()), run.steps, run.batch
    norms = {part: LagNorms.zeros(T, lags, B) for part in run.sizes}
    sums = [np.zeros((len(starts), *np.shape(leaf)), run.dtype) for leaf in _leaves(run)]
    shape = (T, lags, B)
    kept = {p: np.zeros((*shape, s), run.dtype) for p, s in run.sizes.items()} if keep else {}
    rows, powers = np.zeros((lags, B, n), run.dtype), np.zeros((lags, B), np.int32)
    for k in reversed(range(T)):
        behind = min(lags, T - k)  # lags 0 … of the losses of the steps from k on
        _add_slopes(sums, run, k, unscaled(rows, powers), starts)
        found = run.back(k, rows[: lags - 1])
        powers = np.concatenate([np.zeros((1, B), np.int32), powers[: lags - 1]])
        t = np.arange(k, k + behind)
        counted = run.counted[t]
        for part, values in run.parted(found[:behind]).items():
            sizes = np.sqrt(np.einsum("lbn,lbn->lb", values, values).astype(np.float64))
            own, true = norms[part], np.where(counted, np.ldexp(sizes, powers[:behind]), 0)
            own.total[t, np.arange(behind)] += true.sum(axis=1)
            own.squares[t, np.arange(behind)] += (true**2).sum(axis=1)
            own.count[t, np.arange(behind)] += counted.sum(axis=1)
            own.by_sequence[:behind] += true
            own.steps[:behind] += counted
            if keep:
                kept[part][t, np.arange(behind)] = unscaled(values, powers[:behind])
        shift = rescaling(np.abs(found).max(axis=2))
        rows = np.ldexp(found, -shift[..., None]) if shift.any() else found
        powers = powers + shift
        bar.update(1)
    names = run.names()
    by_lag = [
        Parameters.of({name: np.atleast_1d(a[s]) for name, a in zip(names, sums, strict=True)})
        for s in range(len(starts))
    ]
    return norms, by_lag, kept


def _leaves(run: StepRun) -> list[Any]:
    leaves: list[Any] = run.jax.tree_util.tree_leaves(run.parameters)
    return leaves


def _add_slopes(
    sums: list[Array], run: StepRun, k: int, rows: Array, starts: tuple[int, ...]
) -> None:
    """Adds what passed through step k: rows after it are those of lags 1, 2, …; lag 0 is y's."""
    groups = np.zeros((len(starts), *rows.shape[1:]), rows.dtype)
    lags = len(rows)
    edges = np.array([*starts, lags])
    for s in range(len(starts)):
        first, last = max(1, edges[s]), edges[s + 1]
        if last > first:
            groups[s] = rows[first - 1 : last - 1].sum(axis=0)
    for total, own in zip(sums, run.slopes(k, groups), strict=True):
        total += own


def _spectrum(run: StepRun, seed: int) -> tuple[Array, Lyapunov]:
    size, linear = sum(run.sizes.values()), cast(Linear, run)
    lengths = np.full(run.batch, run.steps)
    samples = max(1, JACOBIANS * JACOBIAN_STATE // max(JACOBIAN_STATE, size))
    count = max(1, min(LYAPUNOV_EXPONENTS, LYAPUNOV_NUMBERS // (size * run.batch)))
    transient = min(run.steps, LYAPUNOV_STEPS) // LYAPUNOV_TRANSIENT
    rng = np.random.default_rng(seed)
    singular = singular_values(linear, samples, lengths)
    return singular, lyapunov(linear, lengths, count, transient, rng)


def _layer(
    run: StepRun,
    norms: Mapping[str, LagNorms],
    singular: Array,
    exponents: Lyapunov | None,
    lags: int,
    needed: int | None,
) -> LayerFlow:
    main = norms["c" if "c" in norms else "h"]
    compared = chained(main.total, main.count)
    fall = decay(compared)
    dead = np.zeros(sum(run.sizes.values()), bool)
    wanted = max(1, lags // 4) if needed is None else needed
    verdict, reason = judge(fall, dead, min(wanted, lags - 1))
    return LayerFlow(
        kind=getattr(run.step, "__name__", type(run.step).__name__),
        units=len(dead),
        norms={part: mean_norms(own.total, own.count) for part, own in norms.items()},
        spread={part: spread_of(own) for part, own in norms.items()},
        profile={part: profile_of(own) for part, own in norms.items()},
        profile_spread={part: spread_over_sequences(own) for part, own in norms.items()},
        profile_error={part: np.zeros(lags) for part in norms},
        paths={},
        time_constants=None,
        gates={},
        dead=dead,
        singular_values=singular,
        lyapunov=exponents,
        decay=fall,
        verdict=verdict,
        reason=reason,
        compared=compared,
    )
