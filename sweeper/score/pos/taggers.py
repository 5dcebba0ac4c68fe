"""The choice of a tagger: spaCy's model where it is installed, HanTa where it is not."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from sweeper.errors import UserError
from sweeper.score.pos import hanta, spacy_model
from sweeper.score.pos.tags import Words
from sweeper.spec.task import AutoTagger, HantaTagger, SpacyTagger, TaggerSpec

_log = logging.getLogger("sweeper")


@dataclass(frozen=True, slots=True)
class Tagger:
    """A tagger with what identifies it; it is loaded when it is first called."""

    identity: Mapping[str, str]
    """Everything that the tags depend on besides the text; part of the cell key."""
    tag: Callable[[str], Words]
    """From a text to its words."""

    @property
    def label(self) -> str:
        """The identity for people: ``HanTa 1.2.1 (rules 1)``."""
        said = {key: value for key, value in self.identity.items() if key != "rules"}
        return f"{' '.join(said.values())} (rules {self.identity['rules']})"


def choose(spec: TaggerSpec) -> Tagger:
    """The tagger that a job asks for; loads nothing.

    Raises:
        UserError: it is not installed; the message begins with the key below the task's.
    """
    match spec:
        case AutoTagger() if not spacy_model.is_installed(spec.model):
            return Tagger(hanta.identity(), hanta.tag)
        case HantaTagger():
            return Tagger(hanta.identity(), hanta.tag)
        case AutoTagger() | SpacyTagger():
            model = spec.model
            return Tagger(spacy_model.identity(model), partial(spacy_model.tag, model=model))


def check(spec: TaggerSpec, key: str) -> None:
    """Check that the tagger is there, and say which one ``auto`` comes to.

    Raises:
        UserError: it is not; the message begins with the job's key.
    """
    try:
        tagger = choose(spec)
    except UserError as error:
        raise UserError(f"{key}.{error}") from None
    if isinstance(spec, AutoTagger):
        fell_back = tagger.identity["tagger"] == "HanTa"
        why = f", since spaCy's model {spec.model!r} is not installed" if fell_back else ""
        level = logging.WARNING if fell_back else logging.INFO
        _log.log(level, "%s.tagger: parts of speech are those of %s%s", key, tagger.label, why)
