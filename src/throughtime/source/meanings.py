"""What people's names mean: which are sizes, data, targets, states, gradients, and calls.

Every table here is a guess about names; what is guessed is accepted only if it runs and fits.
"""

from __future__ import annotations

import re
from functools import cache

INPUTS, HIDDEN, OUTPUTS, STEPS, BATCH = 5, 4, 5, 6, 3
"""Sizes that the package draws data for: inputs and outputs alike, as for a text's symbols."""

LONGEST = 2 * STEPS  # data are drawn for so many steps, since the check also looks at longer runs

FORWARD = re.compile(
    r"^_?(forward|feed_?forward|fwd|f+_?f?o?r?wd|fprop|f_prop|\w*forward\w*|\w*_fwd|__call__|call"
    r"|predict|run|evaluate|unroll|encode)$",
    re.I,
)
BACKWARD = re.compile(
    r"^_?(back\w*|\w*_?backward\w*|\w*backprop\w*|\w*bptt\w*|bprop|b_prop|\w*_bwd|bwd|gradients?"
    r"|grads?|(get|compute|calc\w*|find)_?\w*grad\w*|loss_?fun\w*|lossfn_?and\w*|cost_?fun\w*"
    r"|\w*loss\w*_(and_)?grad\w*|\w*cost\w*_(and_)?grad\w*|forward_?backward|fwd_?bwd"
    r"|train_?(step|on_\w+|batch|one\w*)|step|learn|fit_?(one|batch)\w*|optimi[sz]e|sgd_step"
    r"|numpy_sgd_step|update|fit|train)$",
    re.I,
)
WEIGHT = re.compile(r"^([WUVR](_?\w{0,4})?|w_?\w{1,3}|\w*weights?\w*|\w*kernel\w*)$")
BIAS = re.compile(r"^(b(_?\w{0,4})|\w*bias\w*)$", re.I)
LOSS = re.compile(
    r"^_?(\w*loss\w*|\w*cost\w*|\w*error\w*|\w*cross_?entropy\w*|mse\w*|ce|nll\w*|criterion"
    r"|objective|sse|bce\w*|\w*energy)$",
    re.I,
)
DERIVATIVE = re.compile(r"(grad|deriv|prime|backward|delta|^d_?[a-z]|_d$|diff)", re.I)
CELL = re.compile(r"(rnn|lstm|gru|recurrent|cell|elman|net|model|seq2seq)", re.I)
INITIALISE = re.compile(
    r"^_?(init\w*|\w*_init\w*|make_\w*|create_\w*|build_\w*|\w*param\w*)$", re.I
)

SIZES: tuple[tuple[str, str], ...] = (
    (r"file|path|fname|folder|^dir(?!.*(size|dim|vocab|num|count))", "path"),
    (r"^(layer_?|cell_?|net_?|model_?)?name$", "name"),
    (r"(char|word|token|symbol|letter|idx|ix|index|id)s?_?(2|to)_?(char|word|token|symbol|letter"
     r"|idx|ix|index|id)s?$", "table"),
    (r"epoch|n_?iter|iterations", "once"),
    (r"batch|^b$|^m$|^bs$|num_seq|n_seq", "batch"),
    (r"trunc|max_(norm|grad)|clip|thresh", "keep"),
    (r"(hid\w*|state|cell|units?)_?len(gth)?$", "hidden"),
    (r"(out\w*|target|label|class)_?len(gth)?$", "outputs"),
    (r"(vocab\w*|dict\w*|alphabet|chars?|symbols?|char\w*_?set|feat\w*|emb\w*)_?len(gth)?$",
     "inputs"),
    (r"^(in|inp|inputs?|x)_?len(gth)?$", "extent"),
    (r"seq|steps?$|^t$|^tau$|^t_|length|_len$|^len|time|window|bptt|unroll|max_?len", "steps"),
    (r"drop", "dropout"),
    (r"^layers?_?(sizes|dims|list|nodes|shapes?)$|^(net\w*_)?(sizes|dims|shape|topology|structure)$"
     r"|^architecture$", "sizes"),
    (r"layer.*(size|dim|unit)|hid|^h$|^n_?h\d?$|^h_n$|^n_a$|unit|cell|state|neuron|^nh|mem|latent"
     r"|width|d_model|^rnn_?size|^lstm_?size|^gru_?size|recurrent", "hidden"),
    (r"layer|depth|stack", "layers"),
    (r"out|class|^n_y$|^y_n$|^o$|^k$|^y_?dim|target|label|categor|^n_o|^no$|pred", "outputs"),
    (r"^z_?size|concat", "both"),
    (r"vocab|char|word|symbol|alphabet|token|dict_?size|^v$|^n_letters", "inputs"),
    (r"^lr|rate|^alpha|^eta|learn|step_?size", "rate"),
    (r"(^|_)in_|_in$|^fan_?in|^inp|input|^in$|^x_?dim|^n_x$|^x_n$|^d$|^i$|^n_?in|feat|emb|^n_i|^ni$|^dim|^d_|visible|^m$|data_dim",
     "inputs"),
    (r"seed|random_state|rng", "seed"),
    (r"scale|sigma|^std|_std|_sd$|variance", "scale"),
    (r"reg|lambda|decay|l1|l2|penal|momentum|beta|eps", "small"),
    (r"_?(size|dim|units?)$", "hidden"),
)  # fmt: skip

VALUES: dict[str, list[str]] = {
    "path": ["'text.txt'"],
    "name": ["'a'"],
    "table": [f"{{n: n for n in range({INPUTS})}}"],
    "once": ["1"],
    "batch": [str(BATCH)],
    "steps": ["T"],
    "hidden": [str(HIDDEN), f"[{HIDDEN}]"],
    "sizes": [
        f"[{INPUTS}, {HIDDEN}, {OUTPUTS}]",
        f"[{HIDDEN}]",
        f"[{INPUTS}, {HIDDEN}]",
        str(HIDDEN),
    ],
    "both": [str(HIDDEN + INPUTS)],
    "outputs": [str(OUTPUTS)],
    "inputs": [str(INPUTS)],
    "extent": [str(INPUTS), "T"],
    "rate": ["0.1"],
    "seed": ["0", "np.random.RandomState(0)", "np.random.default_rng(0)"],
    "dropout": ["0.0", "1.0"],
    "scale": ["0.5"],
    "small": ["0.01"],
    "layers": ["2", "1", f"[{INPUTS}, {HIDDEN}, {OUTPUTS}]"],
}
SIZE_KINDS = {"batch", "steps", "hidden", "both", "outputs", "inputs", "extent", "layers"}


@cache  # names are few, and asked for thousands of times
def size_kind(name: str) -> str:
    """What kind of size or setting a name means, "" if none."""
    low = name.lower().strip("_")
    return next((kind for pattern, kind in SIZES if re.search(pattern, low)), "")


OF_SAMPLES = r"(train|test|batch|true|val|valid|curr?|current|seq|mini|sample|one|single|my)\w?_?"
"""What may stand before `x` and `y`, as in `train_x`; `b_y` and `W_x` are parameters."""

ROLES: tuple[tuple[str, str], ...] = (
    (r"^(d|grads?|delta)_?(l_?d_?)?(y|h|z|a|o|s|outs?|output|logit|pred|prob|score)s?(_\w+)?$",
     "upstream"),
    (r"^d(?![aeiou]|rop)\w*outs?(puts?)?$|^d(?![aeiou]|rop)\w*_outputs?$", "upstream"),
    (r"cache|^caches|store|tape|context|memory|history|^fwd|saved|info", "cache"),
    (r"y_?hat|pred|^outs?$|output(?!.*(grad|delta|size))|prob|^ps?$|logit|score|activation|^a_?l$"
     r"|^o$|^os$", "prediction"),
    (rf"^{OF_SAMPLES}ys?$", "target"),
    (r"target|label|^y$|^ys$|^y_?(t|true|seq|batch|train|list|i|real|onehot|one_hot)$|true|truth"
     r"|^t$|^ts$|desired|expected|gold|answer|^y_|^tgt|^actual", "target"),
    (r"^lr$|rate|alpha|^eta$|learn|step_?size", "rate"),
    (r"^d_?(?!ata|im|epth|ec|rop|ict)\w+|grad|delta|^err|error|upstream|dout|dloss|sensitiv|^g$|bottom_diff|diff$",
     "upstream"),
    (r"param|theta|weights|^w$|^ws$|model|^net$", "parameters"),
    (r"^h_?\d?$|h_?prev|h_?0|h_?init|hidden|prev_?h|init_?(state|h)|h_?start|state|^a_?0|a_?prev"
     r"|s_?prev|^s_?0|h_?in$|last_h|^hs$|memor|prev_?s|initial", "state"),
    (r"^c_?\d?$|c_?prev|c_?0|c_?init|cell|prev_?c|c_?start|c_?in$", "state"),
    (r"^(init|initial|prev|previous|last)_|_(init|initial|prev|previous)$|^[hsac]_?t?_?m_?1$",
     "state"),
    (rf"^{OF_SAMPLES}xs?$", "inputs"),
    (r"^x$|^xs$|^x_?\w{0,6}$|input|seq|sentence|^data|^s$|feat|sample|text|word|^ids?$|token|idx"
     r"|batch|^inp|^u$|^in_|indices|char|observ|signal|source|^src", "inputs"),
)  # fmt: skip


@cache
def role(name: str) -> str:
    """What an argument of a forward pass, loss or backward pass is, "" where its name says not."""
    low = name.lower().strip("_")
    return next((kind for pattern, kind in ROLES if re.search(pattern, low)), "")


SYMBOLS = "abcd"
TEXT = "a b d c a d b c d a c b " * LONGEST
"""Text in place of a user's: five symbols, or four words."""
