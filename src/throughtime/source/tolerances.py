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
GATES = (3, 4)  # that one tensor may hold side by side: of a GRU, of an LSTM
LARGEST_IN_PARTS = 5000  # entries: a larger tensor is looked at as a whole
MOST_USES_TOGETHER = 6  # places where one variable is used, whose terms are added up
MOST_FORWARD_EVENTS = 8000  # values that are moved; beyond, the loss is too long
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
TRIALS_OF_A_MEND = 1500  # the same in a mend, which looks at lines many times, after each fault
# A gradient whose error falls by this factor, and to this part of its size, is mended but for
# another, smaller fault.
NEARER = 20.0
NEARLY_RIGHT = 2e-2

DEEPEST_SERIES = 3  # wrong lines that a wrong one is made of, one of another

# One small change of a wrong expression (`variants`).

MOST_VARIANTS = 3000  # each is evaluated alone, without the rest of the run

# What would have to stand in a line (`what_fits`).

# Of the size of what is wanted: nearer, it is looked at as a whole. Derivatives are known to about
# 1e-6, and what they are divided by makes that worse.
FITS_NEARLY = 1e-3
TOO_SMALL_A_DIVISOR = 1e-4  # of the largest: the quotient of smaller ones is no longer known
MOST_ATOMS = 400  # variables that are looked at
MOST_MADE = 4000  # of what is made of them, of one shape
MOST_SUBTRACTED = 40  # variables of one shape, of which each is subtracted from each
MOST_TERMS = 1200  # that a sum may lack …
MOST_SUMS = 24  # … and sums of them with the same values
MOST_FITTING = 6  # texts with the same values that are tried one after another

# The number of steps at which lines are looked at (`lines`).

FEW_STEPS = 3  # a first, a middle and a last one
MANY_STEPS = (6, 12)  # where all is right at few, as with a truncation
NAMED_FACTOR = 1e-4  # by so much a factor may differ from the size that it is taken for
LONGEST_NAME = 40  # characters of an expression that stands for its value

# Edits and what they cost (`edits`, `edit_candidates`, `expression_edits`, `statement_edits`).

ALIKE_COST = 0.5  # an edit made everywhere alike is one decision, and a little larger than one
MOST_SIZES = 6  # that are multiplied with each other
NAMES_OF_A_SIZE = 2  # that are tried, where several have the same value
IN_FORWARD_COST = 0.5  # of an edit of what the forward pass runs too, and keeps for later
IN_CLIP_COST = 0.3  # of an edit inside of a function that clips, which is rather not called
SAME_LOSS = 1e-12  # relative: the same sums in another order

# What is looked up while a program runs (`executed`).

VISITS = 2  # of a line, the last of which counts: in a loop, something has been carried by then
MOST_ENTRIES = 32  # of a dict or a tuple that are looked at
MOST_MARKED = 4096  # numbers of an array that say whether two are the same

# Tries in processes of their own (`trials`).

LOAD_SECONDS = 120.0  # that a file may take to be run, or a truth to be measured a tensor
LINES_SECONDS = 120.0  # for the values of all lines; without them edits are tried everywhere
TRY_SECONDS = 2.0  # of processor time, that a try may take …
TRY_RATIO = 20.0  # … or so many times what the program takes as it stands
TRY_PATIENCE = 10.0  # times as long by the clock, where the machine is busy or the code waits
PROCESSOR_SECONDS = 3600.0  # that a process may take in all
# Of the parameters' size. At the smallest, rounding is about QUICK_ERROR of a loss of order 1.
QUICK_STEPS = (2.0**-8, 2.0**-13, 2.0**-18)
QUICK_ERROR = 1e-8  # relative: two steps that agree so well have found the derivative
END_SECONDS = 10.0  # in which a process has to end, with all that it has started, when told to
# In which each tensor is compared. In two of them, one that is off by some percent is a multiple of
# the right one by chance in one of a thousand cases, and tensors times settings are a hundred.
DIRECTIONS = 3
POINT_RMS = 0.5  # of weights of up to POINT_WIDTH columns; of wider ones less: products of order 1
POINT_WIDTH = 16.0

# How far a gradient agrees (`agreement`).

NEAR = 3e-5  # relative: equal for the search at first, beside the 1e-6 of a log(p + 1e-6) …
NEAR_AT_LAST = 1e-8  # … and where the check disagrees then; slopes are known to QUICK_ERROR
LARGEST_SAFETY = 1e-3  # of a number that is added within a logarithm or a divisor for safety
SAME_FACTOR = 1e-6  # relative: a factor that differs by no more is that fraction
LARGEST_PART = 64  # of a fraction that counts as simple: a number of steps, sequences, units
SMALL_PART = 16  # likewise for a single number, which is one of these by chance in 5000 cases
NOTHING = 1e-6  # of the largest tensor: what is below it is 0 for the search

# The search for a mend (`mend`, `mended`, `region_text`).

LIKELY = 1.35  # cost of the edits that are tried first
MOST_TRIES = 80_000  # of the gradient, in all …
TRIES_OF_A_STEP = 20_000  # … and without finding anything
MOST_PAIRS = 4_000  # of edits at a time, where none alone makes a tensor agree
FIRST_OF_PAIRS = 60  # edits that come nearest alone
FEWER_FIRST = 15  # of these, tried with edits that show nothing alone …
MOST_SILENT = 200  # … of which so many
MOST_RETURNS = 3  # to before an edit that led nowhere
TENSORS_OF_PAIRS = 2  # at a setting, for which pairs are tried
MOST_RATIOS = 3  # of gradients that are multiples of the right ones
MOST_MENDS = 24  # edits that are made one after another
RANK_COST = 0.03  # of a pair's first edit, for each one that comes nearer alone
FACTORS_OF_ALL = 150  # edits that are tried for the one factor of all tensors
MOST_HOPEFUL = 40  # of different gradients that help at one setting, looked at in all others
SAME_TRIED = 3  # of edits with the same gradient at one setting
EDITS_AT_ONCE = 800  # between two looks at whether one mends all
PAIRS_AT_ONCE = 600  # likewise
MOST_ALTERNATIVES = 24  # of edits with the same gradient at one setting, tried at another
FEWEST_LINES = 2  # statements that are worth a function
MOST_OTHERS = 4  # alternatives that are said

# Which line, in a report (`which_line`).

SECOND_POINT = 2  # seed of the parameters of the second look; mending looks at the others
UNSURE = 0.5  # confidence of a cause that is one of several which would explain as much
