import json
import re
from pathlib import Path

import pytest
import yaml

from sweeper.run.metrics import METRICS

DOCKER = Path(__file__).resolve().parents[2] / "docker"
GRAFANA = DOCKER / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "sweeper.json").read_text())
EXPORTED = {name: metric for metric in METRICS for name in metric.exported}
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def named(text: str) -> set[str]:
    return set(re.findall(r"ray_sweeper_\w+", text))


def test_every_query_asks_for_metrics_that_there_are():
    assert QUERIES
    for query in QUERIES:
        assert named(query)
        assert named(query) <= EXPORTED.keys()
    for variable in DASHBOARD["templating"]["list"]:
        assert named(variable["query"]["query"]) <= EXPORTED.keys()


def test_every_metric_is_shown():
    shown = {EXPORTED[name].name for query in QUERIES for name in named(query)}
    assert shown == {metric.name for metric in METRICS}


@pytest.mark.parametrize("query", QUERIES)
def test_labels_are_those_of_the_metric(query):
    """Filters and groups name labels that the metric has; counters are asked for their rate."""
    for name, labels in re.findall(r"(ray_sweeper_\w+)\{([^}]*)\}", query):
        tags = set(EXPORTED[name].tags)
        assert {part.split("=")[0].strip() for part in labels.split(",")} == tags
        counts = EXPORTED[name].kind != "gauge"
        assert bool(re.search(rf"(rate|increase)\({name}\{{", query)) == counts
    for group in re.findall(r"by \(([^)]*)\)", query):
        tags = set.intersection(*({*EXPORTED[name].tags, "le"} for name in named(query)))
        assert {part.strip() for part in group.split(",")} <= tags
    assert query.count("(") == query.count(")")


def test_the_legends_name_labels_that_the_query_keeps():
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            used = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            kept = set(re.findall(r"\w+", re.search(r"by \(([^)]*)\)", target["expr"])[1]))
            assert used <= kept


def test_the_panels_lie_side_by_side():
    places = set()
    for panel in DASHBOARD["panels"]:
        box = panel["gridPos"]
        assert box["x"] + box["w"] <= 24
        cells = {
            (x, y)
            for x in range(box["x"], box["x"] + box["w"])
            for y in range(box["y"], box["y"] + box["h"])
        }
        assert not cells & places
        places |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_it_is_provisioned():
    source = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yaml").read_text())
    uid = source["datasources"][0]["uid"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {uid}
    provider = yaml.safe_load((GRAFANA / "provisioning/dashboards/sweeper.yaml").read_text())
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    mounted = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert provider["providers"][0]["options"]["path"] in mounted
