"""Statistics of MLP neurons over text, and sets of neurons chosen by them."""
