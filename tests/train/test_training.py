import itertools
import json
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_training import STEPS, TINY, contents, run, tiny_job
from transformers import AutoModelForCausalLM, AutoTokenizer

from sweeper.errors import UserError
from sweeper.models import resolve
from sweeper.spec import ModelSpec
from sweeper.train import training

ROOT = Path(__file__).resolve().parents[2]


def load(folder: Path):
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    return model.eval(), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def test_plain_hugging_face_reads_every_checkpoint(trained):
    assert {path.name for path in trained.glob("step*")} == {f"step{step}" for step in STEPS}
    model, tokenizer = load(trained / "step12")
    config = model.config
    assert (config.model_type, config.hidden_act, config.vocab_size) == ("gpt_neox", "gelu", 400)
    assert config.use_parallel_residual
    assert not config.tie_word_embeddings
    assert config.rope_parameters["partial_rotary_factor"] == 0.25
    text = "The teacher laughs, “naïvely”.\n"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == 0
    assert model(torch.tensor([ids])).logits.shape == (1, len(ids), 400)


def test_the_project_itself_reads_a_checkpoint(trained):
    checkpoint = resolve("tiny", ModelSpec(path=str(trained / "step5")), "cpu")
    assert (checkpoint.num_layers, checkpoint.num_neurons, checkpoint.context) == (2, 48, 32)


def test_the_loss_begins_at_chance_and_falls(trained):
    """Of text that was read, by plain Hugging Face."""
    losses = []
    for step in (0, 12):
        model, tokenizer = load(trained / f"step{step}")
        rows = [tokenizer(text, return_tensors="pt")["input_ids"] for text in SENTENCES]
        with torch.no_grad():
            losses.append(sum(float(model(row, labels=row).loss) for row in rows) / len(rows))
    assert losses[0] == pytest.approx(math.log(400), abs=0.4)
    assert losses[1] < losses[0] - 0.8


SENTENCES = training.sentences_outside_suite(20)[:40]


def test_a_second_training_gives_the_same_bits(trained, tmp_path):
    torch.manual_seed(12345)  # whatever the program has drawn before
    again, said = run(tiny_job(tmp_path / "again"))
    assert contents(again) == contents(trained)
    assert "step12: loss" in said


def test_two_threads_give_the_same_bits_each_time(tmp_path):
    threads = torch.get_num_threads()
    changes = {"threads": 2, "steps": 3, "checkpoints": 2}
    folders = [run(tiny_job(tmp_path / name, **changes))[0] for name in ("a", "b")]
    first, second = map(contents, folders)
    assert first == second
    assert torch.get_num_threads() == threads


def test_another_seed_is_another_model_with_the_same_tokenizer(trained, tmp_path):
    other = contents(run(tiny_job(tmp_path / "other", seed=1, steps=1, checkpoints=2))[0])
    same = contents(trained)
    assert other["step0/model.safetensors"] != same["step0/model.safetensors"]
    assert other["step0/tokenizer.json"] == same["step0/tokenizer.json"]


def test_an_update_is_that_of_torch_written_out(trained, tmp_path):
    """AdamW's first update by its formula, from plain Hugging Face's gradients."""
    job = tiny_job(tmp_path / "unused")
    model, tokenizer = load(trained / "step0")
    after, _ = load(trained / "step1")
    texts = training.training_text(job.text)
    ids = [token for text in texts for token in (*tokenizer(text)["input_ids"], 0)]
    rows = torch.tensor(ids[: len(ids) // 33 * 33]).view(-1, 33)
    batch = training.Blocks(rows, 8, 0).of_step(0)
    model(batch, labels=batch).loss.backward()
    weights = dict(model.named_parameters())
    norm = math.sqrt(sum(float(weight.grad.double().pow(2).sum()) for weight in weights.values()))
    for name, weight in weights.items():
        gradient = weight.grad.double() * min(1.0, 1.0 / norm)
        kept = weight.detach().double() * (1 - (0.01 / 3 * 0.1 if weight.ndim > 1 else 0))
        expected = kept - 0.01 / 3 * gradient / (gradient.abs() + 1e-8)
        found = dict(after.named_parameters())[name].detach().double()
        # Where a gradient is of the order of epsilon, its last digits decide.
        sure = gradient.abs() > 1e-5
        assert torch.allclose(found[sure], expected[sure], rtol=0, atol=2e-5), name


def stop(job, update: int) -> None:
    """Train until Ctrl-C comes in the middle of an update."""
    updates = itertools.count(1)
    real = torch.optim.AdamW.step

    def step(optimiser):
        if next(updates) == update:
            raise KeyboardInterrupt
        return real(optimiser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step)
        with pytest.raises(KeyboardInterrupt):
            run(job)


@pytest.mark.parametrize("update", [1, 4, 11])
def test_a_stopped_training_goes_on_bit_for_bit(trained, tmp_path, update):
    job = tiny_job(tmp_path / "stopped")
    stop(job, update)
    folder, said = run(job)
    assert contents(folder) == contents(trained)
    assert ("goes on from step" in said) == (update > 1)
    if update == 11:
        assert "goes on from step 8" in said


def test_a_complete_training_is_not_repeated(trained, tmp_path):
    job = tiny_job(tmp_path / "done", steps=1, checkpoints=2)
    folder, _ = run(job)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again, said = run(job)
    assert (again, said) == (folder, "")
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == [
        "step0",
        "step1",
        "training.json",
    ]


def test_a_lost_checkpoint_is_trained_anew(trained, tmp_path, caplog):
    job = tiny_job(tmp_path / "lost")
    stop(job, 11)
    lost = tmp_path / "lost" / "step2"
    for file in lost.iterdir():
        file.unlink()
    lost.rmdir()
    folder, _ = run(job)
    assert "step2 has gone from the folder" in caplog.text
    assert contents(folder) == contents(trained)


def test_another_job_does_not_go_on_in_the_folder(tmp_path):
    output = tmp_path / "model"
    run(tiny_job(output, steps=1, checkpoints=2))
    with pytest.raises(UserError, match=r"^seed: 3, but the training in .* has begun with 0"):
        run(tiny_job(output, steps=1, checkpoints=2, seed=3))
    facts = output / "training.json"
    known = json.loads(facts.read_text())
    facts.write_text(json.dumps({**known, "text": "sha256:0"}))
    with pytest.raises(UserError, match=r"^text: not the text"):
        run(tiny_job(output, steps=1, checkpoints=2))


def test_other_libraries_are_said(tmp_path, caplog):
    output = tmp_path / "model"
    run(tiny_job(output, steps=1, checkpoints=2))
    facts = output / "training.json"
    known = json.loads(facts.read_text())
    known["versions"]["torch"] = "1.0"
    facts.write_text(json.dumps(known))
    run(tiny_job(output, steps=1, checkpoints=2))
    assert "the training has begun with 1.0" in caplog.text


def test_folders_that_cannot_be_used_are_one_line(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"^output: .* holds 'thesis.tex'"):
        run(tiny_job(tmp_path / "full"))
    with pytest.raises(UserError, match=r"^output: .* cannot be written: Not a directory"):
        run(tiny_job(tmp_path / "full" / "thesis.tex" / "model"))


def test_two_trainings_do_not_share_a_folder(tmp_path):
    output = training.Output(tmp_path / "model")
    with output.claimed(), pytest.raises(UserError, match=r"^output: another training writes to"):
        run(tiny_job(output.root))


def test_a_loss_that_is_no_number_names_the_learning_rate(tmp_path):
    optimiser = {"learning_rate": 1e30, "max_gradient": 1e30}
    with pytest.raises(UserError, match=r"^optimiser\.learning_rate: 1e\+30 is too high; the loss"):
        run(tiny_job(tmp_path / "model", optimiser=optimiser))


def test_a_text_of_less_than_a_row_is_one_line(tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("Too short.")
    text = {"corpus": {"kind": "file", "path": str(short)}, "sentences": 0}
    with pytest.raises(UserError, match=r"^text: its 4 tokens do not fill a row of 33"):
        run(tiny_job(tmp_path / "model", text=text))


def job_file(folder: Path, output: Path) -> Path:
    file = folder / "job.yaml"
    file.write_text(json.dumps({**TINY, "output": str(output)}))  # JSON is YAML
    return file


@pytest.fixture
def call(call):
    """Function from arguments of ``sweeper train`` to (exit code, output, errors)."""
    return partial(call, "train")


def test_the_command_says_where_the_checkpoints_are(call, tmp_path):
    file = job_file(tmp_path, tmp_path / "model")
    code, out, err = call(file, "steps=2", "checkpoints=3")
    assert code == 0
    assert out == f"{tmp_path / 'model'}: step0, step1, step2\n"
    assert "parameters; " in err
    assert "step2: loss" in err
    code, out, err = call(file, "steps=2", "checkpoints=3", "seed=4")
    assert (code, out) == (2, "")
    assert err.startswith("error: seed: 4, but the training in")
    assert len(err.splitlines()) == 1
