"""Numbers as people read them: one place for digits, units and the dash of missing values."""

import math

import pandas as pd

DASH = "–"
"""Stands for NaN, that is: too little data. Never a zero."""
MINUS = "−"
LARGEST_EXPONENT = 700.0
"""exp() of more overflows a float."""
METRIC_NAMES = {
    "nll": "perplexity",
    "accuracy": "accuracy",
    "margin": "margin",
    "shifted": "surprisal minus overall change",
}
"""How a metric of the estimates is called where people read; others keep their own name."""


def is_missing(value: object) -> bool:
    """Whether the value is None, NaN or pandas' NA."""
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def metric_name(metric: str) -> str:
    """The metric's name for people: ``nll`` is shown as perplexity, its exponential."""
    return METRIC_NAMES.get(metric, metric)


def on_axis(values: pd.Series, metric: str) -> list[float]:
    """Levels or effects in the unit of an axis: percent, perplexity or its factor, or their own."""
    numbers = [float(value) for value in values.astype(float)]
    if metric == "nll":
        return [exponential(value) for value in numbers]
    return [100 * value for value in numbers] if metric == "accuracy" else numbers


def exponential(value: float) -> float:
    """exp(value), infinite where that overflows."""
    return math.exp(value) if value < LARGEST_EXPONENT else math.inf


def _significant(value: float, digits: int = 4) -> str:
    if math.isinf(value):
        return "∞"
    size = abs(value)
    if size != 0 and (size >= 1e6 or size < 1e-4):
        return f"{value:.{digits - 2}e}"
    decimals = digits - 1 - (math.floor(math.log10(size)) if size > 0 else 0)
    return f"{value:,.{max(decimals, 0)}f}"


def _factor(log_ratio: float) -> str:
    value = exponential(log_ratio)
    return f"{value:.3f}" if 0.001 <= value < 10 else _significant(value)


def _signed(text: str) -> str:
    return MINUS + text[1:] if text.startswith("-") else text


def level(metric: str, value: object) -> str:
    """A metric's value: accuracy in %, perplexity as exp(nll), others as they are."""
    if is_missing(value):
        return DASH
    number = float(value)  # type: ignore[arg-type]
    if metric == "accuracy":
        return f"{100 * number:.2f} %"
    return _signed(_significant(exponential(number) if metric == "nll" else number))


def effect(metric: str, value: object) -> str:
    """A difference to the baseline: percentage points, factor on perplexity, or the unit's own."""
    if is_missing(value):
        return DASH
    number = float(value)  # type: ignore[arg-type]
    if metric == "nll":
        return f"× {_factor(number)}"
    if metric == "accuracy":
        return _signed(f"{100 * number:+.2f} pp")
    return _signed(f"{'+' if number >= 0 else ''}{_significant(number)}")


def effect_interval(metric: str, low: object, high: object) -> str:
    """Interval of an effect in the unit of :func:`effect`."""
    if is_missing(low) or is_missing(high):
        return DASH
    ends = [float(low), float(high)]  # type: ignore[arg-type]
    if metric == "nll":
        shown = [_factor(end) for end in ends]
    elif metric == "accuracy":
        shown = [_signed(f"{100 * end:.2f}") for end in ends]
    else:
        shown = [_signed(_significant(end)) for end in ends]
    return f"[{shown[0]}, {shown[1]}]"


def level_interval(metric: str, low: object, high: object) -> str:
    """Interval of a level in the unit of :func:`level`."""
    if is_missing(low) or is_missing(high):
        return DASH
    return f"[{level(metric, low).removesuffix(' %')}, {level(metric, high).removesuffix(' %')}]"


def p_value(p: object, floor: object) -> str:
    """A randomisation p beside the smallest value that so many controls can give."""
    if is_missing(p):
        return DASH
    smallest = DASH if is_missing(floor) else f"{floor:.2g}"
    return f"{p:.2g} (floor {smallest})"


def probability(p: object) -> str:
    """A p-value with two digits."""
    if is_missing(p):
        return DASH
    return "< 1e-16" if float(p) < 1e-16 else f"{p:.2g}"  # type: ignore[arg-type]


def yes_or_no(value: object) -> str:
    """A truth value as a word."""
    return DASH if is_missing(value) else "yes" if value else "no"


def count(value: object) -> str:
    """A whole number with thousands separators."""
    return DASH if is_missing(value) else f"{int(value):,}"  # type: ignore[call-overload]


def index(value: object) -> str:
    """A number that is a name, such as a neuron's: without separators."""
    return DASH if is_missing(value) else str(int(value))  # type: ignore[call-overload]


def seeds(value: object) -> str:
    """Number of seeds; a dash where nothing is drawn at random."""
    return DASH if is_missing(value) or value == 0 else count(value)


def tiny(value: object) -> str:
    """A small number in scientific notation, such as rounding noise."""
    if is_missing(value):
        return DASH
    return "0" if value == 0 else f"{value:.1e}"


def fixed(value: object, digits: int, signed: bool = False) -> str:
    """A number with so many digits behind the point."""
    if is_missing(value):
        return DASH
    number = round(float(value), digits) + 0.0  # type: ignore[arg-type]
    return _signed(f"{number:+.{digits}f}" if signed else f"{number:.{digits}f}")


def between(low: object, high: object, digits: int) -> str:
    """Two ends with so many digits behind the point, in brackets."""
    if is_missing(low) or is_missing(high):
        return DASH
    return f"[{fixed(low, digits)}, {fixed(high, digits)}]"


def share(value: object) -> str:
    """A share in percent, with three digits."""
    if is_missing(value):
        return DASH
    return f"{100 * float(value):.3g} %"  # type: ignore[arg-type]


def parameters(value: int) -> str:
    """A number of parameters: 135M, 1.3B."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if value >= 0.9995 * size:
            return f"{value / size:.3g}{unit}"
    return str(value)


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds, the two largest of them."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
