"""The numbers that decide here, and where each comes from."""

# A cell's code takes about 3 KB for each of its lines, and a compiler about a second for 100 KB: a
# step that Python unrolled a hundred times is better left to NumPy.
MOST_CODE = 300_000  # characters of source

# Compiling takes about a second; a compiler that is busy for so long is waiting for something else,
# such as a licence or a network drive.
COMPILE_SECONDS = 60.0
PROBE_SECONDS = 10.0

# GCC prints 15 KB of macros; whatever prints so much more is no compiler.
MOST_SAID = 4_000_000  # bytes
LAST_WORDS_SECONDS = 1.0  # in which a compiler's output ends, once it has ended itself

# Two threads pay where each has more to do than it takes to start one, which is about 50 µs: so
# many operations on numbers take that long.
WORK_OF_A_THREAD = 2_000_000.0
OF_A_FUNCTION = 20.0  # operations that one number of what is computed element by element takes
