"""Task files of somebody else run no code that the job does not trust."""

import pytest
import yaml
from harness_tasks import TASKS, write_tasks

from sweeper.errors import UserError
from sweeper.score.harness.loading import load

EVIL = """
from pathlib import Path

Path(__file__).with_name("pwned").touch()


def judge(*_, **__):
    return {"acc": 1.0}
"""


@pytest.fixture
def own(tmp_path):
    """Function from lines for a task file to the loaded task; its code leaves a file when run."""
    spec_of = write_tasks(tmp_path)
    (tmp_path / "evil.py").write_text(EVIL)

    def read(lines: str = "", name: str = "tiny_choice", **changes):
        file = tmp_path / f"{name}.yaml"
        file.write_text(file.read_text() + lines)
        return load(spec_of(name, **changes), "suite.own")

    return read


@pytest.mark.parametrize(
    "lines",
    [
        "process_results: !function evil.judge\n",
        "process_docs: !function evil.judge\n",
        "custom_dataset: !function evil.judge\n",
        "class: !function evil.judge\n",
        "process_results: !function os.system\n",
        "doc_to_image: !function evil.judge\n",
    ],
)
def test_functions_of_a_task_file_are_refused_unless_trusted(own, tmp_path, lines):
    with pytest.raises(UserError, match=r"^suite\.own\.task: .*trust_task_code: true$"):
        own(lines)
    assert not (tmp_path / "pwned").exists()


def test_a_trusted_function_runs(own, tmp_path):
    loaded = own("process_results: !function evil.judge\n", trust_task_code=True)
    assert loaded.requests()
    assert (tmp_path / "pwned").exists()


def test_functions_in_files_that_are_included_or_grouped_are_refused(own, tmp_path):
    (tmp_path / "base.yaml").write_text("process_results: !function evil.judge\n")
    with pytest.raises(UserError, match="trust_task_code"):
        own("include: base.yaml\n")
    inner = {"task": "inner", **TASKS["tiny_choice"], "dataset_path": "x/y", "test_split": "test"}
    text = yaml.safe_dump(inner) + "process_results: !function evil.judge\n"
    (tmp_path / "inner.yaml").write_text(text)
    group = yaml.safe_dump({"group": "all_of_it", "task": ["inner"]})
    (tmp_path / "tiny_gap.yaml").write_text(group)
    with pytest.raises(UserError, match="trust_task_code"):
        own(name="tiny_gap")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("more", [{}, {"hf_evaluate": True}])
def test_metrics_that_are_scripts_are_refused(own, tmp_path, more):
    script = tmp_path / "evil_metric" / "evil_metric.py"
    script.parent.mkdir()
    script.write_text(EVIL)
    metric = {"metric": str(script.parent), "aggregation": "mean", "higher_is_better": True, **more}
    with pytest.raises(UserError, match=r"the metric .* is a script.*trust_task_code"):
        own(yaml.safe_dump({"metric_list": [metric]}))
    assert not (script.parent / "pwned").exists()


@pytest.mark.parametrize(
    "template",
    [
        "{{ q.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('touch pwned') }}",
        "{{ self.__init__.__globals__ }}",
        "{{ ''.format.__globals__ }}",
        "{{ '{0.__class__}'.format(q) }}{{ namespace.__init__.__globals__.x }}",
    ],
)
def test_templates_reach_no_python(own, tmp_path, monkeypatch, template):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"SecurityError|UndefinedError"):
        own(yaml.safe_dump({"doc_to_text": template}))
    assert not (tmp_path / "pwned").exists()


def test_templates_say_what_they_said(own):
    """Filters, methods and slices, as the harness's own tasks use them."""
    template = (
        "{{ q.strip().upper() }}|{{ a | regex_replace('o', '0') }}|{{ [a, b] | join(', ') }}"
        "|{{ b.split()[0] }}|{% for x in [a, b] %}{{ loop.index }}{{ x[:2] }}{% endfor %}\n"
    )
    loaded = own(yaml.safe_dump({"doc_to_text": template}))
    first = loaded.requests()[0].args[0]
    assert first == "THE CAT SEES THE|d0gs|dogs, river bank|river|1do2ri\n"


def test_the_harness_is_left_as_it_was(own):
    from lm_eval.api import registry
    from lm_eval.api import task as task_module
    from lm_eval.tasks import _yaml_loader

    with pytest.raises(UserError):
        own("process_results: !function evil.judge\n")
    assert task_module.get_metric is registry.get_metric
    assert _yaml_loader._import_func_in_yml.__module__ == _yaml_loader.__name__
