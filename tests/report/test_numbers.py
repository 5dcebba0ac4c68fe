import math

import pandas as pd
import pytest

from sweeper.report import numbers


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", 0.81234, "81.23 %"),
        ("nll", math.log(22.5), "22.50"),
        ("nll", math.log(12345), "12,345"),
        ("nll", 2000.0, "∞"),
        ("margin", -1.25, "−1.250"),
        ("accuracy", math.nan, "–"),
        ("accuracy", 0.0, "0.00 %"),
    ],
)
def test_level(metric: str, value: float, text: str) -> None:
    assert numbers.level(metric, value) == text


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", -0.0312, "−3.12 pp"),
        ("accuracy", 0.004, "+0.40 pp"),
        ("nll", math.log(1.5), "× 1.500"),
        ("nll", math.log(250.0), "× 250.0"),
        ("margin", 0.5, "+0.5000"),
        ("margin", -12.0, "−12.00"),
        ("nll", math.nan, "–"),
    ],
)
def test_effect(metric: str, value: float, text: str) -> None:
    assert numbers.effect(metric, value) == text


def test_interval_of_a_factor_is_the_exponential_of_its_ends() -> None:
    low, high = math.log(1.25), math.log(1.75)
    assert numbers.effect_interval("nll", low, high) == "[1.250, 1.750]"
    assert numbers.effect_interval("accuracy", -0.05, 0.01) == "[−5.00, 1.00]"
    assert numbers.effect_interval("accuracy", math.nan, 0.01) == "–"


def test_level_interval_names_its_unit_once() -> None:
    assert numbers.level_interval("accuracy", 0.7, 0.8) == "[70.00, 80.00]"
    assert numbers.level_interval("accuracy", math.nan, math.nan) == "–"


def test_p_stands_beside_its_floor() -> None:
    assert numbers.p_value(0.25, 0.25) == "0.25 (floor 0.25)"
    assert numbers.p_value(math.nan, math.nan) == "–"


def test_counts() -> None:
    assert numbers.count(1340) == "1,340"
    assert numbers.count(pd.NA) == "–"
    assert numbers.seeds(0) == "–"
    assert numbers.seeds(10) == "10"


def test_noise() -> None:
    assert numbers.tiny(3.14e-5) == "3.1e-05"
    assert numbers.tiny(0.0) == "0"
    assert numbers.tiny(math.nan) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.24, "1.2 s"), (125.0, "2 min 5 s"), (7320.0, "2 h 2 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert numbers.duration(seconds) == text
