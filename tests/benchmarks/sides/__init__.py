"""One file for each side of a comparison; all give the same answer: texts' log-probabilities."""
