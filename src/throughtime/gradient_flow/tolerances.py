"""The numbers that decide in this room, with what each is for and, where there is one, its reason.

Thresholds of verdicts are ratios of norms, so that the scale of the loss does not matter. Most of
the other numbers bound time and memory: they say how much of a run is looked at, and have no deeper
reason. If losses were drawn or lags left out, the result says so in its notes.
"""

# Verdicts on a layer.

# A gradient that all steps share alike stays below its value at lag 0; ten times that is beyond
# what a few steps of transient growth give (a matrix of norm 1 whose eigenvalues are below 1 grows
# first, too). From there on the far past, not the error at hand, decides on the update.
EXPLODED_ABOVE = 10.0
# Below one per cent of lag 0 a dependency is drowned by what lies nearer: it is learnt a hundred
# times more slowly.
VANISHED_BELOW = 0.01
# A gate is saturated where its slope is below one per cent of the largest, 1/4 for a sigmoid: at
# values below 0.0025 or above 0.9975.
SATURATED_SLOPE = 0.01
# A layer is dead when half of its units are.
DEAD_SHARE_OF_UNITS = 0.5

# Advice.

# Of the upper end of the truncation bias; Student's t below belongs to it.
BIAS_CONFIDENCE = 0.95
# Student's t, one-sided 95 %, by degrees of freedom from 1 to 10; more count as 10.
STUDENT_T = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)
# The norm that nine of ten gradients stay below leaves the ordinary update alone when it clips,
# and stops the rare large one. It is also what a record calls the usual norm.
USUAL_NORM_QUANTILE = 0.9
CLIPPING_WINDOWS = 64  # at most, whose gradients are computed: each costs a backward pass
FEW_CLIPPING_WINDOWS = 8  # fewer say little about a distribution, and the advice says so
# An initialisation is advised where fewer than one unit in ten remembers long enough already.
ENOUGH_UNITS_REMEMBER = 0.1
# log(m − 1) is a forget bias above 0 from a memory of 3 steps on.
LEAST_CHRONO_MEMORY = 3

# What inputs and targets say about the memory that they need.

MEMORY_COLUMNS = 16  # of inputs and of targets: those of the largest variance, to bound the cost
MEMORY_DRAWS = 20  # exceeding the largest of 20 draws by chance has a probability of about 5 %
MEMORY_LAGS = 1024  # at most; see LONG_RUN
MEMORY_STEPS = 4096  # at most: even the longest lag has three quarters of these as pairs of steps

# How much of a run is looked at.

LONG_RUN = 1024  # steps; up to here all T²/2 pairs of steps are looked at
LONG_RUN_LAGS = 100  # of a longer run, unless the caller says otherwise
LONG_RUN_END_POINTS = 1024  # likewise: as many losses as a run of LONG_RUN steps has
PATH_END_POINTS = 32  # of each chunk; splitting by path takes three passes instead of one
JACOBIANS = 8  # whose singular values are computed; of states above JACOBIAN_STATE fewer
JACOBIAN_STATE = 512  # numbers; a singular value decomposition takes their cube
LYAPUNOV_EXPONENTS = 8  # at most; the first ones say how long a change lives
LYAPUNOV_NUMBERS = 2**22  # of all directions together: 32 MiB in float64
LYAPUNOV_STEPS = 2048  # along which exponents are followed, at most; `Lyapunov.drift` says how well
LYAPUNOV_TRANSIENT = 5  # one step in so many, at the beginning, turns directions and does not count
LYAPUNOV_CHECKPOINTS = 16  # at which the running estimate is kept
GATE_STRETCHES = 64  # of time, at most: the columns of a figure
GATE_BINS = 32  # of a histogram
GATE_VALUES = 2**13  # of a gate that are looked at in a stretch, or else those of one step

# Units of rounding within which the gradient of a weighted loss counts as the weight times that of
# the plain one: the weights are powers of two and round nothing, sums of a backward pass do.
SAME_SEED_ROUNDINGS = 64

# How the work is cut, which changes no result beyond rounding.

SEQUENCE_GROUPS = 8  # at most; the spread of the bias comes from them, with 7 degrees of freedom
STREAM_STEPS = 4096  # a longer run is cut in time where its lags allow
CHUNK_STATES = 2**20  # hidden states in a chunk of a stream; some ten times as many numbers in all
BLOCK_ROWS = 1024  # of one product: large enough for it, small enough for the cache
BY_LAG_NUMBERS = 2**25  # that the gradients of all stretches of lags may take: 256 MiB in float64
SINGLE_LAGS = 16  # that are stretches of their own; longer ones follow
SINGLE_LAGS_OF_A_STREAM = 2  # there every stretch costs a pass over all its steps
PAIRS_NUMBERS = 2**22  # that the losses which go back at once hand to the module's steps
# Powers of two beyond which a row is rescaled: its squares still fit into float32, 2^±126, when a
# step makes it larger or smaller by as much again.
RESCALED_BEYOND = 30

# Recording while training.

LOOK_SEQUENCES = 8  # that a look of full size follows
# The looks before those of full size: at most so many sequences, lags and, of torch models, losses.
GROWING_LOOKS: tuple[dict[str, int], ...] = (
    {"sequences": 1, "max_lag": 4, "sample": 4},
    {"sequences": 1, "max_lag": 16, "sample": 16},
    {"sequences": 1},
)
# What the smallest look is taken to last at most, before any was measured: turns of the training
# loop, and seconds. Measured from LSTM 1,8,4,4 to LSTM 32,128,64,512: 1/5 to 2/3 of that.
FIRST_LOOK_TURNS, FIRST_LOOK_SECONDS = 5, 0.05
LOOK_MARGIN = 1.25  # looks of one size do not all take as long
# Weight of the longest look, and of the last one: one slow look, while the machine was busy, is
# forgotten again in time.
LOOK_FORGETTING = 0.5
RECORDED_NORMS = 10_000  # of which a median is taken; of more, the newest
RECORDED_LAGS = 33  # of a profile, at most
SECONDS_BETWEEN_LINES = 15.0  # where there is no terminal
SECONDS_BETWEEN_VERSIONS = 0.2  # of the live line, in a terminal
