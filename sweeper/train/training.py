"""The training itself: a plain loop whose every step follows from the job and its number.

Shapes: B rows of a step, T positions, V vocabulary.
"""

import logging
import math
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional
from transformers import GPTNeoXForCausalLM

from sweeper.atomic import write_folder_atomically
from sweeper.errors import UserError
from sweeper.models.loading import quiet
from sweeper.score.corpus import documents, fingerprint_of
from sweeper.score.grammar import sentences_outside_suite
from sweeper.spec.training import TextSpec, TrainingJob
from sweeper.train.blocks import Blocks, cut
from sweeper.train.model import new_model
from sweeper.train.optimiser import learning_rate, new_optimiser
from sweeper.train.output import Output
from sweeper.train.progress import TrainingProgress
from sweeper.train.state import read_state, step_of, write_state
from sweeper.train.tokenizer import END, for_transformers, train_tokenizer

_log = logging.getLogger("sweeper")

LIBRARIES = ("torch", "transformers", "tokenizers")


def train(job: TrainingJob, console: Console) -> Path:
    """Train a job's model on CPU, or what is left of it.

    The weights are the same bit for bit, in one go or stopped and gone on with, wherever the
    libraries, the kind of processor and ``threads`` are the same.

    Args:
        job: the job, of ``load_training``.
        console: where progress is shown.

    Returns:
        The folder with a folder ``step*`` for each checkpoint, in Hugging Face format.

    Raises:
        UserError: the text cannot be read, the folder cannot be used, or the loss is no number.
        KeyboardInterrupt: stopped; the same call goes on from the last written state.
    """
    output = Output(Path(job.output).absolute())
    with output.claimed(), _deterministic(job.threads):
        texts = training_text(job.text)
        for difference in output.begin(_facts(job, texts)):
            _log.warning(difference)
        if any(not output.checkpoint(step).is_dir() for step in job.checkpoint_steps):
            _Training(job, texts, output, console).run()
        output.state.unlink(missing_ok=True)
    return output.root


def training_text(spec: TextSpec) -> list[str]:
    """The documents that a model reads; every sentence of the grammar is one."""
    return [*documents(spec.corpus, "text.corpus"), *sentences_outside_suite(spec.sentences)]


class _Training:
    """A training between its state on disk and its end."""

    def __init__(
        self, job: TrainingJob, texts: Sequence[str], output: Output, console: Console
    ) -> None:
        spec = job.architecture
        tokenizer = train_tokenizer(texts, spec.vocab_size)
        self._job = job
        self._output = output
        self._console = console
        self._tokenizer = for_transformers(tokenizer)
        rows = cut(tokenizer, texts, spec.max_position_embeddings)
        self._blocks = Blocks(rows, job.batch, job.seed)
        self._model = new_model(spec, tokenizer.get_vocab_size(), job.seed)
        self._optimiser = new_optimiser(self._model, job.optimiser)
        console.print(
            f"{self._model.num_parameters():,} parameters; {rows.numel():,} tokens of text, of "
            f"which {job.steps} steps read {job.steps * job.batch * rows.shape[1]:,}",
            highlight=False,
        )

    def run(self) -> None:
        """Take the steps that are left, and write checkpoints and states along the way."""
        job, done = self._job, self._resume()
        with TrainingProgress(job.steps, done, self._console) as progress:
            if done == 0:
                self._keep(0)
            for step in range(done + 1, job.steps + 1):
                loss = self._step(step)
                progress.update(step, loss)
                if step in job.checkpoint_steps:
                    self._keep(step)
                    progress.say(f"step{step}: loss {loss:.3f}")
                if step in job.checkpoint_steps or step % job.resume_every == 0:
                    write_state(self._output.state, step, self._model, self._optimiser)

    def _resume(self) -> int:
        """Number of updates behind the weights that the loop begins with."""
        done = step_of(self._output.state)
        if done is None:
            return 0
        earlier = (step for step in self._job.checkpoint_steps if step <= done)
        lost = next((step for step in earlier if not self._output.checkpoint(step).is_dir()), None)
        if lost is not None:
            _log.warning("step%d has gone from the folder: the training begins anew", lost)
            return 0
        read_state(self._output.state, self._model, self._optimiser)
        self._console.print(f"goes on from step {done}", highlight=False)
        return done

    def _step(self, step: int) -> float:
        """One update; the loss before it, in nats per token."""
        job = self._job
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(job.optimiser, step, job.steps)
        loss = _loss(self._model, self._blocks.of_step(step - 1))
        if not math.isfinite(loss.item()):
            raise UserError(
                f"optimiser.learning_rate: {job.optimiser.learning_rate:g} is too high; "
                f"the loss of step {step} is {loss.item()}"
            )
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self._model.parameters(), job.optimiser.max_gradient)
        self._optimiser.step()
        self._optimiser.zero_grad()
        return loss.item()

    def _keep(self, step: int) -> None:
        """Write a checkpoint in Hugging Face format, whole or not at all."""

        def fill(folder: Path) -> None:
            with quiet():
                self._model.save_pretrained(folder)
                self._tokenizer.save_pretrained(folder)

        write_folder_atomically(self._output.checkpoint(step), fill)


def _loss(model: GPTNeoXForCausalLM, rows_BT: Tensor) -> Tensor:
    """Mean NLL (nats) of every token of the rows (B, T + 1) but the first."""
    logits_BTV = model(input_ids=rows_BT[:, :-1], use_cache=False).logits
    return functional.cross_entropy(logits_BTV.flatten(0, 1), rows_BT[:, 1:].flatten())


def _facts(job: TrainingJob, texts: Sequence[str]) -> dict[str, Any]:
    """What decides the weights."""
    return {
        "job": job.model_dump(mode="json", exclude={"output", "resume_every"}),
        "text": fingerprint_of(END.join(texts)),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
        },
    }


@contextmanager
def _deterministic(threads: int) -> Iterator[None]:
    """Operations that give the same bits each time, on so many threads."""
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.set_num_threads(before[1])
