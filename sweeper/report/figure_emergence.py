"""Figure of WD over training: how a cohort comes to differ from the rest."""

from sweeper.report.data import ReportData
from sweeper.report.figure import Figure, side_by_side
from sweeper.report.over_steps import MAX_PANELS, cohort_chart, cohort_panels, note_of
from sweeper.report.theme import Palette


def figures(data: ReportData, palette: Palette) -> list[Figure]:
    """WD of every cohort and of the rest of its layers over steps."""
    del palette  # colours tell the cohort from the rest here, not conditions
    panels = cohort_panels(data, "wd")
    if not panels:
        return []
    y_title = "Wasserstein distance to the Gaussian"
    charts = [cohort_chart(rows, title, y_title, zero=False) for title, rows in panels[:MAX_PANELS]]
    caption = (
        "Neurons of a set that is the same at all revisions, and all other neurons of its layers. "
        "Lines: mean over neurons. Shaded: quartiles, which show how neurons differ and are no "
        f"interval of the mean. A set chosen by this distance at one revision stands out there by "
        f"choice; that it does at others is what the figure shows.{note_of(len(panels))}"
    )
    title = "Wasserstein distance over training"
    return [Figure(name="emergence", title=title, caption=caption, chart=side_by_side(charts))]
