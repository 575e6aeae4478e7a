"""How fast the flow of gradients is found beside T backward passes; whether its advice holds."""
