"""What a file of C holds beside its network's own functions; @name@ and the like are filled in."""

from __future__ import annotations

LOSSES = {
    "MeanSquaredError": """\
/* The mean over outputs of (y - target)^2, and δ of the outputs. */
double @name@_loss(const @real@ *outputs, const @real@ *targets, int steps, @real@ *doutputs) {
    const double share = @share@;
    double loss = 0;
    int t, k;
    for (t = 0; t < steps; t++) {
        const size_t at = (size_t)t * @NAME@_OUTPUTS;
        double error = 0;
        for (k = 0; k < @NAME@_OUTPUTS; k++) {
            const @real@ residual = outputs[at + (size_t)k] - targets[at + (size_t)k];
            error += (double)residual * (double)residual / @NAME@_OUTPUTS;
            doutputs[at + (size_t)k] = (@real@)(2 * share / @NAME@_OUTPUTS) * residual;
        }
        loss += share * error;
    }
    return loss;
}""",
    "SoftmaxCrossEntropy": """\
/* -log softmax(y)[target] in nats, and δ of the outputs; targets are probabilities, or one-hot. */
double @name@_loss(const @real@ *outputs, const @real@ *targets, int steps, @real@ *doutputs) {
    const double share = @share@;
    double loss = 0;
    int t, k;
    for (t = 0; t < steps; t++) {
        const @real@ *y = outputs + (size_t)t * @NAME@_OUTPUTS;
        const @real@ *target = targets + (size_t)t * @NAME@_OUTPUTS;
        @real@ *dy = doutputs + (size_t)t * @NAME@_OUTPUTS;
        @real@ top = y[0], sum = 0, total = 0;
        double error = 0;
        for (k = 1; k < @NAME@_OUTPUTS; k++)
            if (y[k] > top) top = y[k];
        for (k = 0; k < @NAME@_OUTPUTS; k++) {
            dy[k] = exp@f@(y[k] - top);
            sum += dy[k];
            total += target[k];
            error -= (double)target[k] * (double)(y[k] - top);
        }
        error += (double)total * (double)log@f@(sum);
        for (k = 0; k < @NAME@_OUTPUTS; k++)
            dy[k] = (@real@)share * (dy[k] / sum * total - target[k]);
        loss += share * error;
    }
    return loss;
}""",
    "BinaryCrossEntropy": """\
/* The mean over outputs of log(1 + e^y) - target y in nats, and δ of the outputs. */
double @name@_loss(const @real@ *outputs, const @real@ *targets, int steps, @real@ *doutputs) {
    const double share = @share@;
    double loss = 0;
    int t, k;
    for (t = 0; t < steps; t++) {
        const size_t at = (size_t)t * @NAME@_OUTPUTS;
        for (k = 0; k < @NAME@_OUTPUTS; k++) {
            const @real@ y = outputs[at + (size_t)k], target = targets[at + (size_t)k];
            const @real@ decay = exp@f@(-fabs@f@(y));
            const @real@ sigma = (y >= 0 ? 1 : decay) / (1 + decay);
            const @real@ most = y > 0 ? y : 0;
            loss += share * (double)(most - y * target + log1p@f@(decay)) / @NAME@_OUTPUTS;
            doutputs[at + (size_t)k] = (@real@)(share / @NAME@_OUTPUTS) * (sigma - target);
        }
    }
    return loss;
}""",
}

ONE_HOT = """\
/* A class as a vector of @NAME@_INPUTS numbers. */
void @name@_one_hot(@real@ *x, int chosen) {
    int i;
    for (i = 0; i < @NAME@_INPUTS; i++) x[i] = i == chosen;
}"""

UPDATES = """\
/* Gradient descent. */
void @name@_sgd(@real@ *parameters, const @real@ *gradient, @real@ rate) {
    int i;
    for (i = 0; i < @NAME@_PARAMETERS; i++) parameters[i] -= rate * gradient[i];
}

/* Scales a gradient down to a norm, where it is larger; returns the norm that it had. */
double @name@_clip(@real@ *gradient, double most) {
    double sum = 0;
    int i;
    for (i = 0; i < @NAME@_PARAMETERS; i++) sum += (double)gradient[i] * (double)gradient[i];
    sum = sqrt(sum);
    if (sum > most)
        for (i = 0; i < @NAME@_PARAMETERS; i++) gradient[i] *= (@real@)(most / sum);
    return sum;
}

/* Adam (Kingma and Ba 2015) with its usual numbers; begin with all of it 0. */
typedef struct {
    @real@ m[@NAME@_PARAMETERS], v[@NAME@_PARAMETERS];
    double power1, power2;  /* 1 - beta^updates */
} @name@_moments;

void @name@_adam(@real@ *parameters, const @real@ *gradient, @name@_moments *own, double rate) {
    const @real@ beta1 = 0.9@f@, beta2 = 0.999@f@, epsilon = 1e-8@f@;
    @real@ step, root;
    int i;
    own->power1 = 0.9 * own->power1 + 0.1;
    own->power2 = 0.999 * own->power2 + 0.001;
    step = (@real@)(rate / own->power1);
    root = (@real@)(1 / sqrt(own->power2));
    for (i = 0; i < @NAME@_PARAMETERS; i++) {
        const @real@ g = gradient[i];
        own->m[i] = beta1 * own->m[i] + (1 - beta1) * g;
        own->v[i] = beta2 * own->v[i] + (1 - beta2) * g * g;
        parameters[i] -= step * own->m[i] / (sqrt@f@(own->v[i]) * root + epsilon);
    }
}"""

WEIGHTS = """\
/* Parameters from a blob, which is @NAME@_PARAMETERS numbers in little-endian order. Returns 0, or
 * 1 if it has another size. */
int @name@_load(@real@ *parameters, const unsigned char *blob, size_t bytes) {
    size_t i;
    int k;
    if (bytes != (size_t)@NAME@_PARAMETERS * @bytes@) return 1;
    for (i = 0; i < @NAME@_PARAMETERS; i++) {
        @bits@ number = 0;
        for (k = @bytes@ - 1; k >= 0; k--)
            number = (@bits@)(number << 8) | blob[i * @bytes@ + (size_t)k];
        memcpy(&parameters[i], &number, sizeof number);
    }
    return 0;
}"""

CHECK = {
    "initial": """\
void tt_initial(void *parameters, size_t count);
void tt_initial(void *parameters, size_t count) {
    memcpy(parameters, @name@_weights, count * sizeof(@real@));
}
""",
    "text": """\
#ifdef @NAME@_CHECK
/* For `throughtime check`: cc -shared -fPIC -D@NAME@_CHECK …, on data that are drawn here. */
#if @NAME@_STEPS < @steps@
#error "the check runs @steps@ steps: leave @NAME@_STEPS at least as large"
#endif
const char *tt_describe(void);
double tt_loss(const void *parameters, size_t count);
void tt_gradient(const void *parameters, void *gradient, size_t count);
int tt_set_length(size_t steps);

static int @name@_check_steps = @steps@;

/* From -1 to 1, by a linear congruential generator. */
static @real@ @name@_drawn(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return (@real@)(*seed >> 8) / 8388608 - 1;
}

static double @name@_checked(const void *parameters, @real@ *gradient) {
    static @name@_window window;
    static @real@ inputs[@NAME@_STEPS * @NAME@_INPUTS], outputs[@NAME@_STEPS * @NAME@_OUTPUTS];
    static @real@ targets[@NAME@_STEPS * @NAME@_OUTPUTS], doutputs[@NAME@_STEPS * @NAME@_OUTPUTS];
    @name@_state state, dstate;
    uint32_t seed = 1;
    double loss;
    int n;
    for (n = 0; n < @name@_check_steps * @NAME@_INPUTS; n++) inputs[n] = @name@_drawn(&seed);
    for (n = 0; n < @name@_check_steps * @NAME@_OUTPUTS; n++) @target@;
    @name@_reset(&state);
    @name@_reset(&dstate);
    @name@_forward((const @real@ *)parameters, &state, inputs, @name@_check_steps, outputs,
            &window);
    loss = @name@_loss(outputs, targets, @name@_check_steps, doutputs);
    if (gradient)
        @name@_backward((const @real@ *)parameters, &window, doutputs, &dstate, gradient, NULL);
    return loss;
}

const char *tt_describe(void) {
    return @described@;
}

double tt_loss(const void *parameters, size_t count) {
    (void)count;
    return @name@_checked(parameters, NULL);
}

void tt_gradient(const void *parameters, void *gradient, size_t count) {
    memset(gradient, 0, count * sizeof(@real@));
    @name@_checked(parameters, (@real@ *)gradient);
}

int tt_set_length(size_t steps) {
    if (steps < 1 || steps > @NAME@_STEPS) return 1;
    @name@_check_steps = (int)steps;
    return 0;
}

@initial@#endif""",
}
