"""One way to run a candidate: its data, model, forward pass, loss and backward pass, as text."""

from __future__ import annotations

from dataclasses import dataclass

from throughtime.source.meanings import LONGEST, STEPS

DRAWN = "0.1 * np.random.default_rng(1).standard_normal("  # upstream weights, as losses.py has them
STATE = "0.3 * draw.standard_normal("  # an initial state, and …
AT_REST = "0.0 * draw.standard_normal("  # … one of 0


@dataclass(frozen=True)
class Reading:
    """One way to run a candidate.

    Args:
        data: statements that draw the data.
        setup: statements that make the model.
        run: statements of the forward pass.
        loss: statements after it that leave `loss`.
        gradient: statements after the forward pass that give the gradient.
        roots: expressions in which parameters and gradients are looked for.
        back_names: names of what the backward pass returns.
        kept: names of variables that hold what a backward pass has returned, besides `back`.
        kept_names: of these, the names of what they hold, where they hold several things.
        names: names of the parameters, where a function of the file returns them in this order.
        moved: names of what the backward pass returns that are parameters which it has moved.
        anchored: whether loss and gradient belong together by the user's own code.
        said: what a reader is told of data, loss and gradient.
        steps, sequences: as in `Recipe`.
        rate: the learning rate that an update is run with.
        needs_agreement: whether it is believed only if some tensor is right.
        own_loss: whether the loss is a function of the file, so that a factor is no guess's.
        passes_over: whether the loss is a guess although the network has a method for it.
        sure: whether the forward pass is given what its arguments' names say.
        literal: whether it is the user who names loss and gradient.
        fits: whether the targets have the shape of an output, so that no loss broadcasts them.
        enlarges: whether they and an output broadcast to more than either has.
        redraw: whether parameters are given values of ordinary size.
        longest: how many steps its data have.
        order: how late it is tried; of readings that are as good, the earlier is taken.
    """

    data: str
    setup: str
    run: str
    loss: str
    gradient: str
    roots: tuple[str, ...]
    back_names: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    kept_names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    names: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    steps: tuple[tuple[str, int], ...] = ()
    sequences: tuple[tuple[str, int], ...] = ()
    rate: float = 0.1
    needs_agreement: bool = False
    own_loss: bool = False
    anchored: bool = False
    passes_over: bool = False
    sure: bool = True
    literal: bool = False
    fits: bool = False
    enlarges: bool = False
    redraw: bool = True
    longest: int = LONGEST
    order: float = 0.0

    @property
    def begin(self) -> str:
        """All that is run before an evaluation."""
        return self.begun(STEPS)

    @property
    def evaluate(self) -> str:
        """All that is run for the loss."""
        return f"{self.run}\n{self.loss}"

    def begun(self, steps: int) -> str:
        """The same for another number of steps."""
        return f"{self.data}\n{cut(self, steps)}\n{self.setup}"


def cut(reading: Reading, steps: int) -> str:
    """Statements that cut the data to so many steps."""
    return "\n".join(f"{name} = {name}[{':, ' * axis}:{steps}]" for name, axis in reading.steps)
