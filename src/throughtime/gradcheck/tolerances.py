"""The numbers that decide in a check, each with where it comes from.

How much is measured at each effort is a table of its own, `budget.EFFORTS`.
"""

# When a gradient is rejected, accepted or left unresolved (`verdict`).
REJECTION_BARS = 3.0  # error bars; each holds two standard deviations of noise and the truncation
SURE_BARS = 10.0  # error bars: beyond them no second measurement is needed
UNDOUBTED_BARS = 1e3  # error bars: a slope so large is no rounding
RESOLVED_ERROR = 0.02  # relative to its tensor: a gradient so far off would have been rejected
NEGLIGIBLE_WEIGHT = 1e-6  # of the tensor that matters most: what is below does not matter
MISSED_PROBABILITY = 0.05  # that random directions overlook an error of the size stated
SETTLED_ENTRY = 0.01  # of a tensor's rms: one entry off by so much is not overlooked …
OVERLOOKED_PROBABILITY = 1e-3  # … nor, but with this probability, an error all over the tensor
LEAST_MOVE = 0.48  # of the rms of all moves: 0.5 / √(13/12), what an entry moves by at least
NORMAL_DENSITY = 0.8  # √(2/π): of the size of a normal number, at 0
CLEAR_FLOORS = 3.0  # floors: a discrepancy beyond them is one, and not its own floor
NOTABLE_KINK = 0.01  # of a slope: a smaller jump of it is not worth a note
BENT_RATIO = 4.0  # noises: truncation and kink beyond them mean that the loss bends at every step

# A point at which lines are measured (`evaluation_point`).
DOUBLE_PRECISION_NOISE = 1e-12  # of the loss: double precision gives no more
BLOWN_UP_RATIO = 1e100  # times the loss: to values beyond nothing can be fitted
FORMAT_PROBE = 0.0123  # of the parameters' size: where the format of the loss's values shows
SIMILAR_SCALES = 1e3  # tensors whose sizes are within this factor move by the same length

# Which lines are measured, and how sharply (`examination`).
SETTLING_MARGIN = 10.0  # times narrower than an error bar has to be for a tensor to be settled
SCREEN_ERROR = 4e-4  # of the tensor that matters least: an error bar over all that serves each
TIGHTEST_ERROR = 1e-12  # of what a direction typically gives: a slope need not be known better
NOISE_MARGIN = 100.0  # times less than an error bar: noise that is ten times underrated still fits
NEAREST_EXPONENT = -24  # where a step search begins at the least: there the curve still shows
SINGLE_ENTRY_ERROR = 1e-6  # of a tensor's largest entry: an error bar that shows as none
AVERAGING_ERROR = 1e-7  # of what a direction typically gives: below it there is no noise to average
VERDICT_ERROR = 1e-3  # likewise: what two directions need for a verdict, with some room
HOPELESS_ERROR = 0.3  # likewise: an error bar that leaves nothing to be said
HOPEFUL_ERROR = 0.01  # likewise: where a first direction is wider, a second is not narrowed
AVERAGED_SLOPES = 4  # along a direction over all tensors
COARSER_ENTRIES = 4.0  # times the error bar that the steepest entry reached: enough for the others
DIRECTIONS_TO_RESOLVE = 2  # over each tensor, where it was not resolved as given

# What must hold before a gradient is called wrong (`confirmation`).
CONFIRMATIONS = 4  # of the clearest differences, which are measured again first
SHIFTED_UNIT = 0.77  # of the unit: no step of a second measurement is one of the first …
NEARER_EXPONENTS = 8  # … and it begins so many exponents below: at a sixteenth of the step
SHORT_STEP_RATIO = 16.0  # of the lengths of two random steps
LENGTH_RATIO = 4.0  # of two lengths of moves that are tried one after the other
MOST_MOVES = 6  # lengths of moves that are tried
SAME_NOISE = 3.0  # times the noise as it is known: up to here it is no other noise
SEVENTH_POWER_PART = 0.1  # of a claim: what powers beyond the sixth may amount to
REFUTING_PART = 1 / 3  # of the difference: an error bar that can show that there is none
CURVE_POWER = 2.0  # of the length: what a curve leaves over grows with this power at least
ABRUPT_POWER = 16.0  # … and with this power at most: 12.5 was seen, of a smooth loss
SMOOTH_PART = 0.02  # of what a claim amounts to over a move: short steps miss no more of it
SATURATING_MOVE = 2.0  # sizes of what is moved: beyond it a loss may saturate
CONTAINED_BARS, EXCLUDED_BARS = 1.5, 3.0  # a move shows no difference, and excludes the claim
STEADY_GRADIENT = 0.5  # relative change below which a gradient hardly changes over a move
SLIGHT_PART = 0.5  # of an error bar: a part that does not make it what it is
CLAIMS_ELSEWHERE = 3  # of a tensor: the clearest, which are tested at a distant point
STRETCHED_STEPS = 16.0  # sizes of what is moved: below steps so long a loss may bend unseen
NARROWING_MOVES = 3  # that are tried to narrow an error bar …
SHORTEST_MOVE, LONGEST_MOVE = 0.25, 16.0  # … in sizes of what is moved, to begin with …
NARROWING_NOISES = 2.0  # … and so many noises long, divided by the error bar that is wanted
CLOSE_POINTS = 5  # nearby points at which a claim is measured
CLOSE_DISTANCE = 2.0**-6  # of each tensor's size: how far away they are
CLOSE_POINT_SEEDS = 1000  # from here on: those of the directions to them
CLOSE_POINT_ERROR = 0.05  # of the difference: an error bar there that need not be narrower
UNKNOWN_PART = 0.1  # of a slope, by which its error bar leaves open whether there is any
KNOWN_SLOPE = 5.0  # error bars from 0: with fewer, a factor to it is hardly known itself
STEADY_PART = 0.1  # of the difference: it stays the same within this …
STEADY_POINTS = 3  # … at so many points: no more are needed
# How many standard deviations over all points a mean must exceed to be more than rounding: first
# if the loss is known to be rounded inside, then if there is no sign of rounding.
CONSTANT_DEVIATIONS, FAIRLY_CONSTANT_DEVIATIONS = 4.0, 2.0

# Where in a tensor something is wrong (`locating`, `areas`).
WRONG_ROW_PART = 0.5  # of a row's entries: where so many are wrong, the row counts as wrong
STRAY_PART = 0.25  # of the wrong entries: so many may lie outside the areas that describe them
MOST_AREAS = 3  # that describe a tensor's wrong entries
DENSE_DIVISIONS = 3  # in a row that find all parts wrong
LONE_DIVISIONS = 2  # in a row that find one part wrong alone
PART_ERROR = 0.02  # of the residual: an error bar that tells which part it belongs to
PLACE_ERROR = 1e-3  # of the residual: one that tells where it is, or that nothing else is left
RAMP_BARS = 50.0  # error bars: a residual so large tells its place by a ramp
LONE_ENTRY_ERROR = 1e-6  # of a tensor's typical gradient: enough for one entry
# Entries of an area that are measured, in fifths of its height and width: what is wrong in gates
# leaves no gap that these miss, be it of rows or of columns.
AREA_SAMPLES = ((0, 0), (1, 3), (2, 5), (3, 1), (4, 4), (5, 2))
SAMPLE_ERROR = 1e-4  # of a typical gradient: an error bar of such an entry that is small enough
STRIP_CLEAR_BARS = 10.0  # error bars that an entry must be off by for a strip to be called right
STRIP_BARS = 100.0  # error bars that a strip at a border would be off by, were it like the rest
ANOTHER_SEED = 1009  # added to the seed of a direction, for one that is drawn independently
PROBE_NOISE_MARGIN = 10.0  # times less than an error bar: what noise may add to it
MOST_STRETCHES = 64  # that stand for all of an area
MOST_LISTED = 64  # wrong entries in a report
MOST_NAMED = 3  # areas in a sentence

# Whether a harness can be checked at all (`preflight`).
LOSS_REPEATS = 16  # losses at one point, once two of them differ
TENSOR_GROUPS = 4  # that are moved one after the other
VISIBLE_ULPS = 1000  # units in the loss's last place: a change that no rounding swallows …
VISIBLE_SHORT_ULPS = 16  # … nor so many where the loss is rounded to few digits
VISIBLE_PART = 0.01  # of the loss: what is rounded to few digits inside it swallows less
LARGEST_UNSTEADY = 0.05  # relative difference that bfloat16 explains
REORDERING_ULPS = 64  # sums whose order changes from call to call differ by no more
FAR_MOVE = 0.5  # of a tensor's rms, or of 1 where that is smaller: no precision hides such a move
NEAR_MOVE = 1e-3  # of a tensor's rms
ALIGNED_MOVES, ALIGNED_RATIO = 6, 4.0  # moves along a gradient, from one that is just visible: …
# … up to a thousand times that, and no longer than a far move

# Further points (`points`).
CHARACTERISTIC_RMS = 0.5  # of weights at a characteristic point …
CHARACTERISTIC_WIDTH = 16.0  # … of tensors up to so wide; of wider ones less: products of order 1
FURTHER_POINT_SEED, DISTANT_POINT_SEED = 11, 23  # added to the seed: directions of their own
CHARACTERISTIC_FACTOR = 2.0  # weights within this factor of it are characteristic as they are

# What would resolve a tensor (`summary`).
SHORT_SPACING = 1e-10  # relative spacing of a loss's values that are not held in float64
SINGLE_SPACING = 2e-7  # likewise, of one that carries fewer digits than single precision
ROUNDED_LOSS = 5e-7  # likewise, of a loss that single precision alone does not explain
COARSE_LOSS = 1e-5  # likewise, of a loss that is rounded far more than single precision does
SMALL_WEIGHTS = 0.1  # root mean square of weights that hardly reach the loss

# Work (`budget`, `workers`, `sweep`).
FEWEST_EVALUATIONS = 32  # without which not even the loss's noise is known
CHUNKS_PER_WORKER = 3  # one that is done early has more to do
FEWEST_LINES = 4  # that are worth sending
EVALUATIONS_PER_LINE = 100  # that it may take, where there is a limit
PROOF_MOVE = 0.25  # of the parameters' size: a move that every copy of the target answers alike
ENTRIES_PER_PART = 16  # that are measured between two updates of the bar, or sent to a worker
