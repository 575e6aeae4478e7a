"""How fast the flow of gradients is, compared with T backward passes, and if its advice holds."""
