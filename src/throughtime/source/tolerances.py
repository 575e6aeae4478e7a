"""The numbers that decide in this room, each with the reason for its value.

Where a comment says no more than what a value is, the value was chosen by judgement.
"""

from __future__ import annotations

# Values at probes (`events`).

LARGEST_VALUE = 20_000  # entries: a larger array is data or a buffer, and costs too much to keep

# Derivatives of the loss by values on the way (`truths`).

# Of the size of what is moved, at a precision of eps: the step is this times the cube root of eps,
# where truncation (the square of the step) and rounding (eps over the step) are about equal.
STEP_FACTOR = 1.0
# Arrays up to this many entries are moved entry by entry, larger ones along random directions.
ENTRY_BY_ENTRY = 4
RANDOM_DIRECTIONS = 3  # one gives a factor, and the others say whether it is one
ROUNDING_ULPS = 4.0  # of the loss: what its rounding may add to a difference
TRUNCATION_TAIL = 3.0  # times what twice the step shows: other directions may curve more
MOVE = 1e-3  # of each parameter: what stays the same is data
MOST_USES = 60  # of one parameter: beyond, only its gradient as a whole is known
MOST_FORWARD_EVENTS = 6000  # values that are moved; beyond, the loss is too long
PLAIN_FRACTIONS = 64  # a scalar derivative of k or 1/k up to this is no sign of anything

# Whether a value is a derivative (`matching`).

ERROR_BARS = 5.0  # a value further from a derivative than so many error bars is another
# Of a derivative's size: closer is the same. The first is for faults that one sees, beside which a
# 1e-6 within a logarithm passes; where none is found, the second is for faint ones.
CLOSE_ENOUGH = (1e-4, 1e-7)
TOO_BLURRED = 1e-2  # of its size: a derivative with a wider error bar says nothing
FACTOR_SPREAD = 1e-5  # by so much the factors of one line may differ from step to step

# The search for wrong lines (`first_wrong`).

MOST_FAULTS = 12  # in one backward pass
MOST_EVALUATIONS = 30_000  # of the loss and of the gradient, for one program
MOST_TRIALS = 4000  # runs of the gradient with true values put in, each as dear as the gradient
# A gradient whose error falls by this factor, and to this part of its size, is mended but for
# another, smaller fault.
NEARER = 20.0
NEARLY_RIGHT = 2e-2

# One small change of a wrong expression (`variants`).

MOST_VARIANTS = 3000  # each is evaluated alone, without the rest of the run

# The number of steps at which lines are looked at (`lines`).

FEW_STEPS = 3  # a first, a middle and a last one
MANY_STEPS = (6, 12)  # where all is right at few, as with a truncation
NAMED_FACTOR = 1e-4  # by so much a factor may differ from the size that it is taken for
LONGEST_NAME = 40  # characters of an expression that stands for its value
