import pytest

from sweeper.errors import UserError
from sweeper.layout import Layout, check_name

METHODS = [
    "marker",
    "run_folder",
    "job",
    "checkpoints",
    "manifest",
    "progress",
    "driver",
    "estimates",
    "report",
]
BAD = ["", ".", "..", "../x", "a/b", "a/../b", "/etc", ".hidden", "a\\b", "a\n", "ä", "x" * 101]


def test_paths_are_relative_to_the_root():
    layout = Layout("/stores/one")
    assert layout.data_file("items", "a1") == "tables/items/a1.parquet"
    assert layout.marker("a1") == "commits/a1.json"
    assert layout.report("r") == "runs/r/report"
    assert layout.full(layout.job("r")) == "/stores/one/runs/r/job.json"


def test_root_of_a_disk_and_longest_name():
    layout = Layout("/")
    assert layout.full(layout.version) == "/store.json"
    assert layout.full(layout.marker("x" * 100)) == f"/commits/{'x' * 100}.json"


@pytest.mark.parametrize("name", BAD)
def test_no_name_leads_out_of_the_store(name):
    layout = Layout("/stores/one")
    for method in METHODS:
        with pytest.raises(UserError, match="no valid name"):
            getattr(layout, method)(name)
    with pytest.raises(UserError, match="table"):
        layout.data_file(name, "a1")
    with pytest.raises(UserError, match="attempt"):
        layout.data_file("items", name)


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "runs/../../x", "runs//x", "runs/"])
def test_full_refuses_paths_out_of_the_store(path):
    with pytest.raises(UserError, match="lead out"):
        Layout("/stores/one").full(path)


def test_two_dots_inside_a_name_are_harmless():
    assert check_name("run", "v1..2") == "v1..2"
