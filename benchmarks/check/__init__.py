"""How far the check can be trusted, its cost and its accuracy, compared with other tools."""
