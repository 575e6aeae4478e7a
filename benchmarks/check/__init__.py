"""How far the check can be trusted, what it costs and how exact it is, beside other tools."""
