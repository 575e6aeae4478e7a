"""The numbers that decide about a program's answers, each with where it comes from."""

ANSWER_TIMEOUT = 60.0  # seconds that an answer may take by default; `timeout` gives it longer
END_GRACE = 2.0  # seconds between the end of a program's input and the end of its life
QUOTED_LINES = 12  # lines of standard error that a message quotes
LONGEST_LINE = 2**26  # bytes; a program that writes more without a newline is not answering

# A program whose losses have few digits is told to print more, once it has given enough of them
# to say so of them all. Six decimals are what printf("%f") and most languages' formats write.
FEW_DECIMALS = 6
ENOUGH_LOSSES = 8

MOST_AXES = 32  # of a parameter: NumPy's own limit before its version 2
MOST_DIGITS = 18  # of a whole number in an answer: with so many it is a 64-bit integer
WITHOUT_BLOCKING = 4096  # bytes that an empty pipe takes at once: PIPE_BUF of Linux
