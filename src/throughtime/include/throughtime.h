/* throughtime.h: what a shared library exports so that `throughtime check ./libmine.so` can check
 * its gradient. Plain C, no dependency; in C++ include it too, for the extern "C".
 *
 *     c++ -O2 -shared -fPIC -I"$(throughtime check --include)" lstm.cpp -o liblstm.so
 *     throughtime check ./liblstm.so
 *
 * All parameters stand in one flat vector, tensor after tensor, each in C order (the last index runs
 * fastest). The checker owns the vectors that it hands over, and hands over the same parameters to
 * tt_loss and tt_gradient. All calls come from one thread.
 */
#ifndef THROUGHTIME_H
#define THROUGHTIME_H

#include <stddef.h>

#if defined(_WIN32)
#define TT_EXPORT __declspec(dllexport)
#else
#define TT_EXPORT __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* JSON: {"names": ["W", "U"], "shapes": [[20, 5], [20, 5]], "dtype": "float32", "steps": 39}
 * dtype is float32 or float64, the type of both vectors; steps, T, may be left out. The string stays
 * the library's own. */
TT_EXPORT const char *tt_describe(void);

/* The loss of a whole run from its initial state, at these `count` parameters. Sum its terms in
 * double, also where all else is float: that is what the check's precision hangs on. */
TT_EXPORT double tt_loss(const void *parameters, size_t count);

/* The gradient of that loss: sets, not adds to, all `count` numbers of `gradient`. They hold NaN
 * beforehand. */
TT_EXPORT void tt_gradient(const void *parameters, void *gradient, size_t count);

/* Optional, each on its own; leave out what does not apply. */

/* Called before every tt_loss and tt_gradient: puts carried states and random numbers back. */
TT_EXPORT void tt_reset(void);

/* From now on the run has this many steps: lets the check look at T = 1, 2 and longer. Returns 0, or
 * another number where there is no data for so many. */
TT_EXPORT int tt_set_length(size_t steps);

/* Sets the parameters at which to check; without it they are drawn evenly from -1/sqrt(n) to
 * 1/sqrt(n), n the length of the tensor's last axis. */
TT_EXPORT void tt_initial(void *parameters, size_t count);

#ifdef __cplusplus
}
#endif

#endif
