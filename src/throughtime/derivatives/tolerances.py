"""The numbers that decide about a numerical derivative, each with where it comes from."""

# Which format values have (`values`).
FORMAT_BITS_UNUSED = 3  # bits: of a handful of numbers at least one uses all but these
FEWEST_DISTINCT = 3  # numbers; fewer say nothing of their format
MOST_DECIMALS = 9  # digits, or places after the point; a number with more looks like any other
FORMAT_SAMPLE = 1000  # numbers of an array; a larger sample would say no more
FORMAT_PROBES = (0.0123, 0.17)  # of the size of x: two further values of f, to see its format

# How much noise values have (`noise`).
NOISE_POINTS = 8  # they know the deviation within a factor of 2 or 3
MANY_NOISE_POINTS = 32  # where noise is what limits a slope, which is the case …
COARSE_NOISE = 1e-12  # … beyond this part of the values: that of double precision lies below
WIDE_SPACING = 2.0**-8  # of a parameter's size: there the function still curves little enough
NOISE_GROWTH = 8.0  # times the noise of nearby values, or of their format: more is no rounding
# In units of the last place; tried one after the other until a spacing moves the function.
NOISE_SPACINGS = tuple(32.0 * 16**k for k in range(8))
WIDEST_SPREAD = 2.0**-6  # of a parameter's size: the points stay within this, else they curve
FAR_SPACING = 2.0**-4  # of it: there what was rounded to few digits is rounded anew
ROUNDING_ULPS = 32.0  # units in the last place that rounding on the way to a value explains
FINE_LAST_PLACE = 1e-12  # of the values: with a finer last place they show no stairs
NOISE_GROWTH_ULPS = 8.0  # units in the last place: the most noise of a value far from 0

# Fits to a ladder of steps (`stencil`).
MOST_COEFFICIENTS = 6  # at most: order 12
SPARE_PAIRS = (2, 3, 4, 6)  # pairs beyond the coefficients; one left-over could be small by chance
FEWEST_PAIRS = 1 + SPARE_PAIRS[0]  # of the smallest window
TRUNCATION_TAIL = 2.0  # for the powers after the next one
KINK_BARS = 3.0  # error bars beyond which a jump of the slope counts as a kink
SHARED_NOISES = 3.0  # deviations of f(0): all values about it may be rounded the other way
AGREEMENT_BARS = 1.5  # error bars within which two estimates agree

# The search for steps (`step_search`). Step k has the length unit · 2^(k/2).
START_EXPONENTS = (-8, -6, -4)  # 1/16 … 1/4 of the size of what is moved
WIDEST_EXPONENT = 20  # 1000 times that size
WIDEST_UNSEEN_EXPONENT = 4  # 4 times it, where no step has moved the function yet
NARROWEST_EXPONENT = -80  # 1e-12 of it
MOST_STEPS = 24  # at most
CURVED_RATIO = 2.5  # truncation beyond this many times the part of noise asks for smaller steps
UNKNOWN_PART = 0.5  # of the value: with a wider error bar nothing is known of the slope
NOISE_ROOM = 1e-4  # of an error bar: noise below this does not hinder smaller steps
SHARP_ENOUGH = 1e-8  # of the value: below it an average over more steps is not worth its price
STUCK_ULPS = 4.0  # units in the last place: where values move less, rounding is no chance
SEEN_NOISES = 10.0  # times its noise: by so much a function has moved visibly
VARIED_NOISES = 100.0  # times its noise: where it moves so far, no larger step is needed
PATIENCE = 3  # steps up or down in a row that bring little
WORTHWHILE_PART = 0.7  # of the last error bar: what a step up or down must get below

# Steps drawn at random (`random_steps`).
INNERMOST_STEP = 0.25  # of the longest one: no place is nearer to 0
ODD_COEFFICIENTS = 3  # of the polynomial at most
ODD_TAIL = 1.5  # for the powers after these
STAIR_SHIFT = 0.75  # treads, over the longest step: stairs move a fitted slope by no more
RANDOM_PAIRS = 12  # of places, one on either side of 0: 8 degrees of freedom are left at least
MOVE_PAIRS = 8  # of places along a long move, where each costs a gradient too
INTEGRAL_COEFFICIENTS = (1, 2, 3, 4)  # of the even polynomial that the slopes are fitted by

# Slopes from short steps along a long move (`near_slopes`).
NEAR_NODES = 8  # of each quarter of the move: they integrate a bent slope to some 1e-3
NEAR_STEP = 1e-3  # of the move: over steps so short its slopes do not bend

# What `derivative` says of a slope (`numerical`).
STAIRS_RATIO = 16.0  # times the steps of a slope: longer ones that contradict it show stairs
DIFFERENT_BARS = 3.0  # error bars beyond which two slopes differ
KNOWN_PART = 0.1  # of a value: it is known where its error bar is below this
ROUGH_RATIO = 20.0  # truncation and kink beyond so many noises: the function is rough, not noisy
