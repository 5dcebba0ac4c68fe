"""What is measured: texts, minimal pairs, log-probabilities and the tasks made of them."""
