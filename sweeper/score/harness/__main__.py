"""The harness's own command line, with this project's models: ``python -m sweeper.score.harness``.

The harness looks for models in its registry alone and loads no plug-ins, so that its own launcher
``lm_eval`` cannot know the model ``sweeper``; this one registers it and hands over.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

from lm_eval.__main__ import cli_evaluate
from lm_eval.api.registry import model_registry

from sweeper.errors import UserError

NAME = "sweeper"


def register() -> None:
    """Make ``--model sweeper`` known; the model's code is loaded when it is used."""
    # The harness adds its own models to an empty registry only.
    import_module("lm_eval.models")
    if NAME not in model_registry:
        model_registry.register(NAME, target="sweeper.score.harness.model:SweeperLM")


def run(arguments: Sequence[str]) -> None:
    """Do what ``lm_eval`` does with these arguments.

    Raises:
        UserError: the model or its condition cannot be used.
        SystemExit: the arguments are wrong, or ask for help.
    """
    register()
    before = sys.argv
    sys.argv = ["lm-eval", *arguments]  # the harness reads and changes it
    try:
        cli_evaluate()
    finally:
        sys.argv = before


if __name__ == "__main__":
    try:
        run(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
