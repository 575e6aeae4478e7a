"""What is done to the package so that it fails: kills, damaged files, hostile programs, no memory.

`make torture` does all of it and prints a table; tests/test_torture.py a little of each. Every
part is a function of a count and a seed, and returns a `Tally`.
"""
