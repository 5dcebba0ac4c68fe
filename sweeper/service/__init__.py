"""Sweeps on a cluster from afar, through the Jobs interface of its head."""
