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
# Relative: a cause that lowers d by less is a small part, and stands behind what explains more.
SMALL_PART = 0.01
# Where the output layer is off by so small a share of what other tensors are, or what a common
# factor leaves by so small a share of the factor's own effect, the larger part comes first …
FAINT = 1e-2
LARGEST_FAINT = 0.1  # of a tensor's largest entry, error bars and all
COVERED = 10.0  # … with error bars of so many times the smaller one
SCALED_LOSS = 1e-3  # times the loss: the gradient no longer reaches a limit at which it is clipped
CONFIDENCE_WHOLE = 0.99  # of a mutant whose gradient is the one under test, down to rounding
CONFIDENCE_IN_PART = 0.7  # of one that explains a part of it

CONFIDENCE_OF_NUMBERS = 0.95  # of a fault that predicts the gradient of all biases at simple points
MOST_ALIASES = 3  # edits with the same effect that a sentence lists

LINES_OF_CLASSES = 4  # in which a softmax along them is looked for

# Factors, clips and L2 terms.

STEEP_ENTRY = 10.0  # error bars: an entry this large tells a ratio to one part in ten
LEAST_STEEP_ENTRIES = 2  # one entry has a ratio whatever is wrong
# Error bars within which a measured factor is one that is known: those of both are added up …
FACTOR_ERROR_BARS = 4.0
FACTOR_ROUNDING = 1e-6  # … and this share of the factor itself
# Relative: where a factor may lie this far off to either side, sizes lie too close to be told.
WIDEST_NAMED = 0.1
ROUNDED = 1e-6  # relative: a factor with a wider error bar is not written as a whole number
RATIO_ROUNDING = 1e-9  # relative: what is closer is one factor, even where error bars are 0
# A size as small as this is often equal to another one, or to 2: a number tells none of them from
# the others. Larger ones are equal by chance alone.
USUAL_SMALL_SIZE = 4
ENTRIES_AT_OTHER_LENGTHS = 4  # of each tensor, the steepest, that tell a factor at another length
# Relative: a gradient whose norm at another point is this close to its norm here is clipped to it.
SAME_NORM = 1e-6
NORM_POINTS = (1.3, 0.8, 1.7)  # times the parameters: where that norm is looked at again
LEAST_CLIPPED_ENTRIES = 2  # at one magnitude: the largest entry alone is always at its own
MOST_ROWS = 4  # of those left out that are named: a line holds no more

# Two sets of numbers alone.

COMPARISON_ERROR = 1e-4  # of a tensor's largest derivative: what central differences usually reach
LEAST_TELLING_PAIRS = 3  # different ones: two have a common factor too easily
DISTINCT_ENTRIES = 0.6  # of all that are not 0; with fewer, equal ones are equal by their digits
NEARLY_PARALLEL = 0.9  # the cosine from which a gradient is said to be near a factor's
AGREES_WITHIN = 1e-2  # of a tensor's largest derivative: with coarser digits nothing agrees
WIDEST_SCATTER = 0.05  # of it: float32 differences reach some per cent; more is another gradient
NAMED_SCATTER = 0.02  # of it: with more, a factor is said to be near, and is no cause
# Of their root mean square: where the median of what is left is smaller, few entries are off, and
EVEN_SCATTER = 0.2  # it is no scatter; of normal deviates it is 0.67
LEAST_SCATTERED = 4  # entries beyond one for each factor, from which a scatter is estimated
# Relative: a numerical derivative this close to a power of 2 times a power of 10 is one …
BINARY_STEP = 5e-4
BINARY_STEPS = (13, 27)  # … 2⁻¹³ to 2⁻²⁷: the last place of a loss in float32, from 1000 to 0.1
DECIMAL_STEPS = 8  # 10⁰ … 10⁷: what such a step is multiplied with, 1 over the difference's
FEWEST_STEPS = 16  # of such a step: numbers up to so many are whole multiples of it, or of …
MOST_PARTS = 8  # … a part of it, since the smallest derivative may be several steps
FEWEST_LEVELS = 3  # of the smallest derivatives, that are looked at for such a step
# Of the largest derivative: differences with a coarser quantum say nothing; with a finer one they
COARSE_QUANTUM = 0.03  # still tell a factor
MOST_MULTIPLES = 300  # of a quantum; any number is a whole multiple of something finer
LEAST_QUANTISED_ENTRIES = 6  # fewer are whole multiples of something by chance
SAME_MULTIPLE = 0.02  # of the quantum: how far an entry may lie from a whole multiple

# What tensors are for, and what kind of loss it is.

REACTION_ULPS = 1e2  # in the loss's last place: a larger change is a reaction
DRAWN_PARAMETERS = 0.5  # standard deviation of the point from which tensors are moved
FAR_LOGIT = 64.0  # there a cross-entropy is a straight line: e^−32 is below float32's precision
STRAIGHT = 1e-3  # relative: how far the loss may lie off a parabola or a straight line
LIVELY_DRAWS = 4  # of which one should have a loss that reacts to every tensor
# Times a tensor, and its inverse times another: states are at their bounds there to one part in …
RESCALED = 1e4
# … some thousands: what is left of the loss is this share of it, or nearly all.
SAME_AS_CUT = 0.02
POINTS_OF_A_LOSS = 4  # at so many a factor is predicted: by chance one alone might be right
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
OUTPUT_WEIGHTS = 0.5  # standard deviation of the output layer's weights
EVEN_PROJECTION = 0.3  # every entry of a projection that is the same when read in either shape
NARROWEST_BAR = 1e-10  # of the largest derivative: no error bar need be narrower
# Float32 tells no more; the numbers that a factor is compared with lie further apart.
SAME_FACTOR = 1e-2
# Error bars between the gradient that counts of steps predict and the one that is seen: within …
COUNTS_FIT = 4 * DIFFERS_BEYOND
# … the counts explain it; and beyond this, they predict another gradient than the right one.
COUNTS_DIFFER = 8 * DIFFERS_BEYOND
SAME_SPACE = 1e-8  # of the largest singular value of a gradient: what float64's rounding leaves
CLOSED_GATE = -40.0  # a bias, and with it σ to 1e-17, beside inputs of some units
ENTRIES_OF_A_ROW = 3  # of an embedding, that tell whose step its gradient is
STEPS_OF_AN_EMBEDDING = 8  # in which some word is likely to come twice
RANK_SIDE = 8  # rows and columns of which a rank is taken
# Times the noise: where the largest singular value is above it, none that matters is hidden.
CLEAN_SPECTRUM = 100.0

# Points at which a target is a network that is known.

FEW_UNITS, FEW_OUTPUTS = 4, 2  # that are looked at; all others are 0
DRAWN_BIASES = (0.3, 1.1)  # their sizes: gates neither idle nor closed, and no two units alike
DRAWN_RECURRENT = 0.6  # standard deviation: what comes back through them is as large as all else
# Of the largest derivative: where an error bar is wider, wrong readings would fit too.
VAGUE_PREDICTION = 1e-3
# Steps whose δ is found from one length alone: beyond, states at different steps are too alike.
MOST_UNKNOWN_STEPS = 3
# Times the precision of the derivatives: two gradients this close are one.
PREDICTED_WITHIN = 100.0
FINEST_PREDICTION = 1e-7  # relative: closer than this no prediction is compared
# Relative: the error of what was itself read off other looks, whose error bars are up to 1e-6.
SECOND_HAND = 3e-6
# Sums of a step's inputs that are tried, and how often the best of them is refined.
SUMS_TRIED = tuple(0.05 + 0.1 * k for k in range(-60, 60))
SUM_REFINED = 60
LONGEST_READ = 12  # steps over which δ of the outputs is collected one step after the other

MOST_CHOICES = 20  # of recurrent matrices among more that may be
PASSES_OF_PAIRS = 1_500  # backward passes for two faults at once, after each by itself
NEWTON_STEPS = 6  # for values in which the gradient is linear one by one, but not together
TELLING_APART = 1e5  # condition number: beyond it, parts of a sum are too alike to be counted
MOST_SAID = 4  # parts of a gradient that a sentence lists

# The model of a target.

# Losses are one, relative to their own size and to 1, by the precision of the parameters.
SAME_LOSS = {"float64": 1e-9, "float32": 3e-5}
# Times that at a point that is drawn, since states there may magnify what is rounded …
FAR_ROUNDING = 30.0
# … and units of a layer above which weights are drawn the smaller, so that states do not run wild.
SMALL_LAYER = 4
# How far the second point lies at which losses are compared, as a share of each tensor's mean size.
POINT_BESIDE = 0.1

# Data that are recovered from losses.

DRAWN_WIDTH = 4.0  # wider tensors are drawn smaller, so that pre-activations are of order 1
SPARE_POINTS = 3  # losses more than unknown numbers: a wrong network has no data that fit
# A number this close to a whole one is tried as that one.
NEAR_A_WHOLE_NUMBER = 1e-3
GAUSS_NEWTON_STARTS = 5  # for each sequence, drawn at random, from which data are looked for
GAUSS_NEWTON_STEPS = 30  # of one descent; where it succeeds, it takes some ten
MOST_CLASS_PAIRS = 3e7  # inputs times outputs times inputs: numbers in a table of all classes
MOST_CLASS_CHOICES = 5_000  # of one class for each sequence, each of which is a linear system …
CLASS_CHOICES_AT_ONCE = 256  # … and so many of them take some 30 MB
SHARE_OF_RECOVERY = 0.3  # of the diagnosis's evaluations; experiments need the rest
SAME_WEIGHT = 1e-2  # the weights of a loss's terms are whole numbers, or such parts of 1
MOST_SEQUENCES = 4  # whose data are told apart
# By which a first step is looked for; further steps may take their own. Fewer are worth their time
# where nothing has shown what network it is, or where initial states are unknown too.
MOST_DESCENTS = 480
MOST_BLIND_DESCENTS = 120
# Layouts and losses for which data are looked for; a network that was recognised took 125 at most.
MOST_RECOVERIES = 1_000
# Layouts that names and shapes allow, the likeliest first: so many are looked at before data are
# recovered with those that showed. Where all sizes are equal, there are 100,000.
STRUCTURES_AT_ONCE = 2_000
MOST_STRUCTURES = 20_000
STRUCTURES_THAT_COUNT = 50  # of those that fit, that tell how many sequences there are
# Times V: there a cross-entropy is no parabola, even where outputs are small …
FAR_MULTIPLE = 1e3
LEAST_SIGHT = 1e-2  # … unless its loss hardly differs from that of outputs of 0

# Times a tensor: states are at their bounds there, and an L2 term is known to 1 part in its square.
FAR_OUT = 1e6
# Times a row w: states are at their bounds there for inputs of 1e-3 too, and exp(z) is 0 or inf.
FAR_INPUT = 1e5
DIRECTIONS_OF_W = 6  # of which one may have the same sign with every sequence
LEAST_DRIVEN = 0.1  # times the root of what losses tell: of a loss that outputs of order 1 change
POINTS_THAT_MOVE = 4  # of a network that is driven; with as few, most layouts are refuted
SILENT_ROWS = 0.4  # of the mean size of a block's entries: rows that begin with less are put to 0
NO_SLOPE = 1e-9  # of the largest: what rounding leaves of a loss that does not depend on an output
COARSE_EPSILON = 1e-2  # in log(p + ε), beside the usual ones, which a search for layouts tries

# The search for a layout: networks that are run forwards, of which most take half a millisecond.
MOST_TRIES = 6_000
LEAST_TRIES = 300  # of any network
NEAREST_AMONG = 400  # of them, where none has the loss
WORK_OF_A_GUESS = 2e9  # multiplications, where more than the least are run
# What is added to p in log(p + ε), as far as people write it and float64 shows it.
USUAL_EPSILONS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-9, 1e-10, 1e-12, 1e-4, 1e-3, 1e-2)
WITHIN_AN_EPSILON = 5e-2  # of the loss: no such number changes it by more
# Relative spread, over several points, of the ratio of two losses that are the same but for a
# factor, before it is looked at closely; of the ratio of two that differ by what is rounded on
# the way, such as states that are kept in float32; of their difference, if it is one number; of
# an L2 term, before it is looked at closely, since it may be a small part of a loss; and of the
# ratio of losses that are near each other at all: by chance, some of a thousand are.
SAME_RATIO = 1e-5
ROUNDED_RATIO = 2e-6
SAME_DIFFERENCE = 1e-6
SAME_DECAY = 1e-3
NEAR_RATIO = 1e-4
MOST_MULTIPLES_OF_A_LOSS = 40  # layouts whose losses are multiples of one that is looked for

# The search for mutants.

# Gradients are one, relative to a block's largest entry, by their precision: what rounding may do.
SAME_GRADIENT = {"float64": 1e-9, "float32": 3e-5}
# Data recovered from losses in single precision leave a network's gradient off by some 6e-4 of a
# block's largest entry (an LSTM of 5 units over 39 steps). It is measured on a sample of entries;
# times that, the others stay below it …
ERRORS_OF_OTHER_ENTRIES = 2.0
# … and where it is above this, neither a name nor its refutation can rest on the network.
LARGEST_RECOVERED_ERROR = 3e-3
# Of the largest entry: below it, what counts is the rounding of larger terms …
ROUNDED_BELOW = 0.02
# … which in float64 is some thousand units in the last place; with more, small blocks fit anything.
ROUNDED_BESIDE = 1e-12
# Of a block's largest entry: where rounding of larger terms may do more, what fits is no proof.
TELLING = 1e-3
# Times the precision of a gradient: two factors, each read off a block, this close are one …
SAME_SCALE = 100.0
# … and a factor this close to a number, or to a product of sizes, is that number.
KNOWN_SCALE = 10.0
WRITTEN_FACTOR = 1e-5  # relative: what is written of a factor, six digits, tells no more
# Of the limit: an entry this close to the limit is clipped, and tells nothing more.
CLIPPED_WITHIN = 1e-6
# The same for entries that have one and the same magnitude, which shows that there is a limit.
HELD_WITHIN = 1e-9
# Of a block's squared norm: with more than this left, no closer comparison is worth its time.
HOPELESS_REST = 1e-6
# What rounding may leave of such a rest, of the squared norms of what it is the difference of,
# where a sum of two blocks has kept at least so much of their squared norms.
ROUNDED_PRODUCTS = 1e-10
LEAST_LEFT = 1e-3
PARALLEL_BIASES = 1e-7  # how far the cosine of the angle of two parallel biases may be below 1
LEAST_PENALISED_ENTRIES = 6  # of a matrix that two numbers, a factor and λ, are read off
MOST_PENALISED = 2  # matrices that are looked at for λ
CHANCE_ENTRIES = 8  # a partial explanation of no more entries than these may be one by chance
EXTENDED_ATTEMPTS = 6  # the best partial ones, each of which is tried with one mutation more
# Passes that try one fault alone, in addition to one for each of its mutations.
PASSES_OF_A_REFUTATION = 50
MOST_PASSES = 16_000  # backward passes of a small network, each a fraction of a millisecond
LEAST_PASSES = 200  # of any network, in addition to one for each single mutation
# Sets of edits of a step that are run together, and numbers that these may hold: 64 MB of them.
MOST_SETS_AT_ONCE = 256
MOST_NUMBERS_AT_ONCE = 8_000_000
STEP_OVERHEAD = 3e4  # multiplications that take as long as all else that NumPy does in a step
# Times that overhead, in a step that is run node by node: a tenth of the passes takes as long.
EQUATIONS_OVERHEAD = 9.0
WORK_OF_A_SEARCH = 4e9  # multiplications, where more than the least passes may be run
# Several mistakes at once, found a few at a time.
MOST_AT_A_STAGE = 6  # mistakes that a stage may show beside those found before
SEEDS_OF_A_STAGE = 6  # sets that explain a stage, from which the next one starts
PASSES_OF_A_STAGE = 3_000  # backward passes
SHARE_OF_NAMED_PAIRS = 0.7  # of the passes that are left, before pairs with an edit of a step
SHARE_OF_PAIRS = 0.75  # of the passes that are left; the rest is for what comes after them

# At how many points a block is left out of a first step: a unit of ReLU that is dead at one of them
# is hardly dead at all.
POINTS_WITHOUT = 8
CHANGED_LOSS = 10  # times the tolerance of losses: by more a loss has changed
