"""What a diagnosis says where it does not know: what was not looked for, and what would tell.

That no known fault explains a gradient is said only where all that is known was tried.
"""

from __future__ import annotations

from collections.abc import Sequence

from throughtime.diagnosis.experiments import Study
from throughtime.diagnosis.roles import LossReactions
from throughtime.gradcheck import Spent, Target

ONE_LENGTH = (
    "Only one length can be run. Faults that show in how the gradient changes with T were "
    "therefore not looked for; most of those within a step and between steps are of that kind. "
    "To allow other lengths: {hint}."
)
NO_STEPS = (
    "How the gradient changes with T was not looked at, since T is not known: give `steps=` as "
    "well as `at_length=`."
)
NO_LAYOUT = (
    "The gradient was not compared with our own backward pass with each fault in turn, since the "
    "role of each array is not known: give `layout=`, such as "
    "`tt.layouts.guess(inputs, targets)`"
)
# What a guess has to be told, since no array shows it.
STATES = "with `h0=`, and `c0=` of an LSTM, where states do not begin at 0"
NO_HEAD = (
    "with `head=` where the output layer is no parameter, as none of your arrays seems to be it"
)
NOT_RECOGNISED = "Your losses alone, at T = 1, 2, …, did not tell which network it is."
# What can be pasted into the call that makes a target of Python functions.
PASTE = "In one line, to be pasted into `tt.Target(…)`: `{line}`{made}."
MADE = ", where `make_target(inputs, targets)` stands for what makes this target of its data"
LENGTHS = "at_length=lambda T: make_target(inputs[:T], targets[:T])"
LAYOUT = "layout=tt.layouts.guess(inputs, targets)"
OUTPUT_AGREES = (
    "The output layer is right, since {agrees}: what is wrong comes after it on the way back, in "
    "what it hands down, within a step, or from step to step."
)
NUMBERS_ALONE = (
    "Numbers alone show only factors, rearrangements and the like: `tt.check` on the code "
    "that computes them would look further."
)
BUDGET = "Not every known fault was tried, since the budget of evaluations is spent."


def unknown(wrong: Sequence[str], study: Study, *, beside: bool, modelled: bool) -> list[str]:
    """Sentences on what nothing explains.

    Args:
        wrong: names of the tensors that differ.
        study: experiments on the target.
        beside: whether causes were found that explain another part.
        modelled: whether the network behind the target is known.
    """
    rest = "Besides what is named below, it is unknown why" if beside else "It is unknown why"
    differ = "differ" if len(wrong) > 1 else "differs"
    start = f"{rest} {', '.join(wrong)} {differ}"
    untried = _untried(study, modelled)
    if not untried:
        return [f"{start}: no known fault explains it."]
    return [f"{start}: nothing tried explains it.", *_output_agrees(wrong, study), *untried]


def _output_agrees(wrong: Sequence[str], study: Study) -> list[str]:
    """A sentence where the output layer is known and agrees, and other tensors are wrong."""
    roles = vars(study).get("roles") if study.evaluates else None  # if they were asked for
    output = () if roles is None else roles.output
    if not output or set(output) & set(wrong):
        return []
    try:
        if not LossReactions(study).proved_head(study.roles):
            return []
    except Spent:
        return []
    agrees = f"{' and '.join(output)} agree{'s' * (len(output) == 1)}"
    return [OUTPUT_AGREES.format(agrees=agrees)]


def place_alone(study: Study, *, modelled: bool) -> list[str]:
    """Sentences on what would tell more where only the place is known."""
    return _untried(study, modelled)


def _untried(study: Study, modelled: bool) -> list[str]:
    """Sentences on what was not tried, with what would allow it."""
    if not study.evaluates:
        return [NUMBERS_ALONE]
    target, found = study.target, []
    if target.at_length is None:
        if target.steps != 1:
            found.append(ONE_LENGTH.format(hint=target.length_hint))
    elif target.steps is None:
        found.append(NO_STEPS)
    if not modelled and target.layout is None:
        if target.at_length is not None and target.steps is not None:
            found.append(NOT_RECOGNISED)
        roles = vars(study).get("roles")  # if they were asked for
        beside = [NO_HEAD] if roles is not None and roles.head is None else []
        found.append(f"{NO_LAYOUT}, {', and '.join([*beside, STATES])}.")
    found += _to_paste(target, modelled)
    if study.budget.over:
        found.append(BUDGET)
    return found


def _to_paste(target: Target, modelled: bool) -> list[str]:
    """A line with the arguments that a target of Python functions lacks; empty if it has all."""
    if target.length_hint != Target.length_hint:
        return []  # of a library or a program
    lengths = target.at_length is None and target.steps != 1
    parts = ["steps=T"] if target.steps is None else []
    parts += [LENGTHS] if lengths else []
    parts += [LAYOUT] if not modelled and target.layout is None else []
    return [PASTE.format(line=", ".join(parts), made=MADE if lengths else "")] if parts else []
