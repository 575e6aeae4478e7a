"""Our own backward pass with faults put in, and the search for those that match a gradient."""
