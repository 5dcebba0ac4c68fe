"""Profiles: what single neurons do, recorded for the most extreme ones of the census."""

from sweeper.spec.base import Count, Strict
from sweeper.spec.condition import Statistic


class ProfileSpec(Strict):
    """Which neurons are looked at one by one, and over how much of the census' text."""

    statistic: Statistic = "wd"
    """The neurons with the largest value of it, over all layers."""
    neurons: Count = 8
    """Number of neurons."""
    windows: Count = 16
    """Number of windows of the census' text and length; unlike the census' own they do not
    overlap, so that no place of the text counts twice."""
    pairs: Count = 2000
    """Pairs of tokens drawn at random; there are at most as many pairs of similar ones besides."""
