"""Speed, side by side with others, in one run and on the same data: only ratios count."""
