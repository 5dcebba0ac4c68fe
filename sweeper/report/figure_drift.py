"""Figure of drift over training: how far a cohort's input weights turn, against the rest's."""

from sweeper.report.data import ReportData
from sweeper.report.figure import Figure, side_by_side
from sweeper.report.over_steps import MAX_PANELS, cohort_chart, cohort_panels, note_of
from sweeper.report.theme import Palette


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """Relative drift of every cohort and of the rest of its layers over steps."""
    del palette  # colours tell the cohort from the rest here, not conditions
    panels = cohort_panels(data, "relative_drift")
    if not panels:
        return []
    y_title = "cosine dissimilarity / layer mean"
    charts = [
        cohort_chart(rows, title, y_title, zero=True, reference=1.0)
        for title, rows in panels[:MAX_PANELS]
    ]
    caption = (
        "How far the rows of pre-activation weights have turned since the revision that each is "
        "compared with, as 1 - cosine over the mean of the neuron's layer. Dashed: a layer's mean. "
        "Lines: mean over neurons. Shaded: quartiles of neurons. A point stands at the later "
        f"revision of the two.{note_of(len(panels))}"
    )
    title = "Weight drift over training"
    return [Figure(name="drift", title=title, caption=caption, chart=side_by_side(charts))]
