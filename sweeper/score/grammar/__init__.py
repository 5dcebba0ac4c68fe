"""The project's own English minimal pairs, generated from templates and word lists."""

from sweeper.score.grammar.outside import sentences_outside_suite
from sweeper.score.grammar.suite import PAIRS_PER_PARADIGM, PARADIGMS, generate

__all__ = ["PAIRS_PER_PARADIGM", "PARADIGMS", "generate", "sentences_outside_suite"]
