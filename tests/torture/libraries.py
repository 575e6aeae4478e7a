"""Shared libraries that write where they must not, and end, stop or outlive what calls them."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from pathlib import Path

import throughtime as tt
from throughtime.targets import INCLUDE
from torture.programs import TIMEOUT, attempt, leftovers, marked
from torture.tally import Tally, folder

COMPILER = shutil.which("cc") or shutil.which("gcc") or ""
SIZE = 600  # parameters; with 8 bytes each, more than a page

SOURCE = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include "throughtime.h"

#ifndef DESCRIBE
#define DESCRIBE
#endif
#ifndef LOSS
#define LOSS
#endif
#ifndef GRADIENT
#define GRADIENT
#endif

static int deep(int n) { volatile char big[4096]; big[0] = n; return deep(n + 1) + big[0]; }
static void daemonize(void) {
    if (fork()) return;
    setsid();
    if (fork()) _exit(0);
    for (;;) pause();
}

const char *tt_describe(void) {
    DESCRIBE;
    return "{\\"names\\": [\\"w\\"], \\"shapes\\": [[600]], \\"dtype\\": \\"float64\\"}";
}

double tt_loss(const void *parameters, size_t count) {
    const double *p = parameters;
    double *w = (double *)parameters;
    double total = 0;
    (void)w, (void)deep, (void)daemonize;
    for (size_t k = 0; k < count; k++) total += p[k] * p[k];
    LOSS;
    return total;
}

void tt_gradient(const void *parameters, void *gradient, size_t count) {
    const double *p = parameters;
    double *w = (double *)parameters, *g = gradient;
    (void)w;
    for (size_t k = 0; k < count; k++) g[k] = 2 * p[k];
    GRADIENT;
}
"""

# Statements in C, for the loss and for the gradient. The gradient itself is right.
ANYWHERE = [
    "w[0] += 1e-3", "w[count - 1] = 0", "w[count] = 1", "w[-1] = 1", "w[count + 7] = 1",
    "w[count + 512] = 1", "w[-512] = 1", "w[-600] = 1", "memset(w, 0, 8 * count)",
    "memset(w, 255, 8 * count + 8)", "memset(w - 1, 255, 8)", "free(w)", "exit(0)", "_exit(0)",
    "exit(1)", "abort()", "raise(SIGSEGV)", "raise(SIGKILL)", "raise(SIGTERM)", "raise(SIGSTOP)",
    "raise(SIGFPE)", "for (;;) ;", "pause()", "deep(0)", "close(0)",
    "for (int k = 0; k < 64; k++) close(k)",
    "*(volatile int *)0 = 1", "((void (*)(void))0)()",
    "munmap((void *)((size_t)w & ~4095ul), 4096)",
    "kill(getppid(), SIGKILL); for (;;) ;", "kill(getppid(), SIGSTOP); for (;;) ;",
    "kill(getppid(), SIGTERM); for (;;) ;", "daemonize(); abort()", "daemonize(); for (;;) ;",
    "if (fork()) for (;;) pause(); for (;;) pause()",
    "kill(0, SIGKILL)", "kill(-getpid(), SIGSTOP); for (;;) ;", "setsid(); for (;;) ;",
    "jmp_buf there; memset(&there, 0, sizeof there); longjmp(there, 1)",
]  # fmt: skip
OF_THE_GRADIENT = [
    "g[count] = 1", "g[-1] = 1", "g[count + 7] = 1", "g[count + 511] = 1", "g[count + 512] = 1",
    "g[-512] = 1", "g[-600] = 1", "g[count + 1024] = 1", "memset(g, 255, 8 * count)",
    "memset(g - 1, 0, 8)", "memset(g + count, 0, 8)", "memset(g + count, 254, 1)",
    "g[count - 1] = NAN",
    "g[0] = INFINITY", "memset(g + 3, 255, 8)", "free(g)", "w[count + 1] = g[0]",
]  # fmt: skip
OF_THE_DESCRIPTION = [
    "return 0", 'return ""', 'return "[]"', "return (const char *)1",
    "abort()", "for (;;) ;", "daemonize(); _exit(0)",
    "static char big[1 << 26]; memset(big, '[', sizeof big - 1); return big",
    "static char big[1 << 20]; memset(big, '9', sizeof big - 1); return big",
]  # fmt: skip
OF_THE_LOSS = ["return NAN", "return INFINITY", "return -INFINITY"]
# What does no harm, and has to agree.
HARMLESS = [
    ("LOSS", 'puts("{\\"loss\\": 1}")'), ("LOSS", "daemonize()"),
    ("LOSS", "signal(SIGINT, SIG_IGN)"),
    ("GRADIENT", 'printf("\\x1b[2J")'), ("GRADIENT", "close(2)"), ("GRADIENT", "(void)0"),
]  # fmt: skip


def cases() -> list[tuple[str, str, tuple[str, ...]]]:
    """Where, what, and which verdicts are right."""
    both = [(place, code) for code in ANYWHERE for place in ("LOSS", "GRADIENT")]
    rest = {"GRADIENT": OF_THE_GRADIENT, "DESCRIBE": OF_THE_DESCRIPTION, "LOSS": OF_THE_LOSS}
    both += [(place, code) for place, codes in rest.items() for code in codes]
    found: list[tuple[str, str, tuple[str, ...]]] = [(place, code, ()) for place, code in both]
    found += [(place, code, ("agree",)) for place, code in HARMLESS]
    return found


def libraries(count: int, seed: int = 0) -> Tally:
    """The first `count` of the cases after the `seed`-th, around the end."""
    tally, chosen = Tally(), cases()
    chosen = (chosen[seed % len(chosen) :] + chosen[: seed % len(chosen)])[:count]
    if not COMPILER:
        return tally
    with folder() as place, marked() as mark:
        for number, (where, code, allowed) in enumerate(chosen):
            path = _compiled(place, number, where, code)
            start = partial(tt.library_target, path, timeout=TIMEOUT)
            attempt(tally, start, {"where": where, "code": code, "allowed": allowed})
            path.unlink()
        leftovers(tally, mark)
    return tally


def _compiled(place: Path, number: int, where: str, code: str) -> Path:
    source, out = place / "hostile.c", place / f"lib{number}.so"
    source.write_text(f"#define {where} {code}\n{SOURCE}")
    flags = ["-O0", "-w", "-shared", "-fPIC", f"-I{INCLUDE}"]
    subprocess.run([COMPILER, *flags, str(source), "-o", str(out)], check=True)
    return out
