"""The numbers that decide in this room, each with the reason for its value.

Where a comment says no more than what a value is, the value was chosen by judgement. How often
the right fault is named with all of them is what the diagnosis's benchmark shows
(`make bench-diagnose`).
"""

from __future__ import annotations

# Whether two numbers differ.

DIFFERS_BEYOND = 3.5  # error bars: two numbers further apart than this differ
# Of the gradient's own precision: what is closer than so many units in the last place is the same.
SAME_NUMBER_ULPS = 8.0
# Added to every error bar, so that none is 0; its square is a number too.
SMALLEST_ERROR_BAR = 1e-140
# Noise may account for so many entries that differ, and for no more …
FEW_DIFFERENCES = 8
# … and for none that differs by more error bars than these: beyond, nothing is measured again.
CLEAR_DIFFERENCE = 10.0

# How much is looked at.

ENTRIES_OF_A_LOOK = 600  # over all tensors
LEAST_ENTRIES_OF_A_LOOK = 40  # the same where the budget is short
LEAST_ENTRIES_OF_A_TENSOR = 4  # so that every tensor is seen, however small it is beside others
LOOKS_OF_A_BUDGET = 8  # how many looks a budget should last for
# Evaluations that an entry is taken to cost before a first look has shown what it costs.
FIRST_PRICE_OF_AN_ENTRY = 12.0
# Of a tensor's largest gradient: an error bar this small is small enough.
FINE_ERROR_BAR = 1e-6

# The search for causes.

MOST_FAULTS = 6  # that are undone one after the other; the benchmark puts in three at most
# Times as many entries as a look takes, for each wrong one: a sample will hardly hold one then.
RARE_IN_A_SAMPLE = 10
SCALED_LOSS = 1e-3  # times the loss: the gradient no longer reaches a limit at which it is clipped
CONFIDENCE_WHOLE = 0.99  # of a mutant whose gradient is the one under test, down to rounding
CONFIDENCE_IN_PART = 0.7  # of one that explains a part of it

CONFIDENCE_OF_NUMBERS = 0.95  # of a fault that predicts the gradient of all biases at simple points
MOST_ALIASES = 3  # edits with the same effect that a sentence lists

# Factors, clips and L2 terms.

STEEP_ENTRY = 10.0  # error bars: an entry this large tells a ratio to one part in ten
LEAST_STEEP_ENTRIES = 2  # one entry has a ratio whatever is wrong
# Error bars within which a measured factor is one that is known: those of both are added up …
FACTOR_ERROR_BARS = 4.0
FACTOR_ROUNDING = 1e-6  # … and this share of the factor itself
RATIO_ROUNDING = 1e-9  # relative: what is closer is one factor, even where error bars are 0
ENTRIES_AT_OTHER_LENGTHS = 4  # of each tensor, the steepest, that tell a factor at another length
# Relative: a gradient whose norm at another point is this close to its norm here is clipped to it.
SAME_NORM = 1e-6
NORM_POINTS = (1.3, 0.8, 1.7)  # times the parameters: where that norm is looked at again
LEAST_CLIPPED_ENTRIES = 2  # at one magnitude: the largest entry alone is always at its own

# Two sets of numbers alone.

COMPARISON_ERROR = 1e-4  # of a tensor's largest derivative: what central differences usually reach
MOST_MULTIPLES = 300  # of a quantum; any number is a whole multiple of something finer
LEAST_QUANTISED_ENTRIES = 6  # fewer are whole multiples of something by chance
SAME_MULTIPLE = 0.02  # of the quantum: how far an entry may lie from a whole multiple

# What tensors are for, and what kind of loss it is.

REACTION_ULPS = 1e2  # in the loss's last place: a larger change is a reaction
DRAWN_PARAMETERS = 0.5  # standard deviation of the point from which tensors are moved
FAR_LOGIT = 64.0  # there a cross-entropy is a straight line: e^−32 is below float32's precision
STRAIGHT = 1e-3  # relative: how far the loss may lie off a parabola or a straight line
EPSILONS = (1e-20, 1e-2)  # what people add within a logarithm; below, a straight line looks so far
SETTLED = 20  # rounds in which an ε settles: each leaves at most ε of the error before
# Of the whole gradient: an ε of the usual size explains no more, see the page of `epsilon_in_log`.
LITTLE_OF_EPSILON = 1e-2
WHOLE_NUMBER = 1e-2  # how far a number of sequences may be from a whole one

# Simple points: parameters at which it is known beforehand what a network does.

BETA = 0.7  # every bias, and so every pre-activation: σ, tanh and their derivatives differ there
# The same for each gate by itself: no two activations, and none of their derivatives, are the same.
GATE_BIASES = (0.7, -0.4, 1.1, 0.25)
UNIT_WEIGHT = 0.6  # recurrent weight of a unit that sees itself alone
# Of the largest derivative, beside error bars: edits of a step change a bias by 1e-3 of it or more.
SAME_IN_A_UNIT = 1e-5
# Relative: two losses this close are one; float32 tells no more, and another state is further off.
SAME_STATE = 1e-5
RECURRENT_WEIGHTS = 0.2  # the size of recurrent weights, where some are wanted
OUTPUT_WEIGHTS = 0.5  # standard deviation of the output layer's weights
EVEN_PROJECTION = 0.3  # every entry of a projection that is the same when read in either shape
NARROWEST_BAR = 1e-10  # of the largest derivative: no error bar need be narrower
# Float32 tells no more; the numbers that a factor is compared with lie further apart.
SAME_FACTOR = 1e-2
# Error bars between the gradient that counts of steps predict and the one that is seen: within …
COUNTS_FIT = 4 * DIFFERS_BEYOND
# … the counts explain it; and beyond this, they predict another gradient than the right one.
COUNTS_DIFFER = 8 * DIFFERS_BEYOND
RANK_SIDE = 8  # rows and columns of which a rank is taken
# Times the noise: where the largest singular value is above it, none that matters is hidden.
CLEAN_SPECTRUM = 100.0

# The model of a target.

# Losses are one, relative to their own size and to 1, by the precision of the parameters.
SAME_LOSS = {"float64": 1e-9, "float32": 3e-5}
# How far the second point lies at which losses are compared, as a share of each tensor's mean size.
POINT_BESIDE = 0.1

# The search for mutants.

# Gradients are one, relative to a block's largest entry, by their precision: what rounding may do.
SAME_GRADIENT = {"float64": 1e-9, "float32": 3e-5}
# Of the largest entry: below it, what counts is the rounding of larger terms.
ROUNDED_BELOW = 0.02
# Times the precision of a gradient: two factors, each read off a block, this close are one …
SAME_SCALE = 100.0
# … and a factor this close to a number, or to a product of sizes, is that number.
KNOWN_SCALE = 10.0
# Of the limit: an entry this close to the limit is clipped, and tells nothing more.
CLIPPED_WITHIN = 1e-6
# The same for entries that have one and the same magnitude, which shows that there is a limit.
HELD_WITHIN = 1e-9
# Of a block's squared norm: with more than this left, no closer comparison is worth its time.
HOPELESS_REST = 1e-6
PARALLEL_BIASES = 1e-7  # how far the cosine of the angle of two parallel biases may be below 1
CHANCE_ENTRIES = 8  # a partial explanation of no more entries than these may be one by chance
EXTENDED_ATTEMPTS = 6  # the best partial ones, each of which is tried with one mutation more
MOST_PASSES = 6_000  # backward passes of a small network, each a fraction of a millisecond
LEAST_PASSES = 200  # of any network, in addition to one for each single mutation
STEP_OVERHEAD = 3e4  # multiplications that take as long as all else that NumPy does in a step
WORK_OF_A_SEARCH = 2.3e9  # multiplications, where more than the least passes may be run
SHARE_OF_NAMED_PAIRS = 0.7  # of the passes that are left, before pairs with an edit of a step
SHARE_OF_PAIRS = 0.75  # of the passes that are left; the rest is for what comes after them
