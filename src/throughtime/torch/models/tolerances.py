"""The numbers that decide about a torch model's run, each with where it comes from."""

# Steps at the start of a run over which torch's outputs and ours must be the same: rounding alone
# cannot have led them apart so soon, however chaotic the network is on its data.
SAME_RUN_STEPS = 8

# How far apart two outputs of one step may be, relative to the largest output of the run, and
# count as the same: above what rounding adds up to in one step, below what autocast,
# quantisation or another forward method change.
SAME_OUTPUT = {"float32": 1e-3, "float64": 1e-9}

# Units of rounding within which two gradients of one loss, weighted differently, count as the
# same: the weights are powers of two and round nothing, the sums of a backward pass do.
SAME_GRADIENT_ROUNDINGS = 64
