"""This project's models under a condition, as a model of lm-evaluation-harness."""

import copy
import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Literal

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from pydantic import ValidationError

from sweeper.clamp.hooks import clamped
from sweeper.errors import UserError
from sweeper.models import leased_folder, resolve
from sweeper.models.loading import LoadedModel, load
from sweeper.records import Condition
from sweeper.score.engine import score_texts
from sweeper.score.fidelity import check_fidelity
from sweeper.score.harness.condition import read_condition
from sweeper.score.harness.encoding import Answer, Recorder, encode
from sweeper.score.harness.loading import quiet
from sweeper.score.harness.writing import finite_logits
from sweeper.score.memory import TokenBudget, first_budget
from sweeper.spec import model_option
from sweeper.spec.errors import first_of, problems_of
from sweeper.spec.model import ModelSpec
from sweeper.spec.wording import hint, listed, shown


class SweeperLM(HFLM):  # type: ignore[misc]
    """The harness's Hugging Face model, scored by the engine and clamped throughout."""

    def __init__(
        self,
        pretrained: str | None = None,
        condition: str | Mapping[Any, Any] | None = None,
        revision: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None,
        max_batch_tokens: int | None = None,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        device: str | None = None,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        **unknown: Any,
    ) -> None:
        """Load the model and compare it with plain Hugging Face.

        Args:
            pretrained: option of ``conf/model``, hub repository, local folder, or ``.gguf`` file.
            condition: what is clamped (``read_condition``); None for nothing.
            revision: on the hub.
            dtype: number format of the weights; float32 on CPU and bfloat16 on GPU if absent.
            max_batch_tokens: most token positions in one forward pass of scoring.
            batch_size: prompts that are continued together; scoring packs by tokens.
            max_batch_size: with ``batch_size`` ``auto``.
            device: ``cpu``, or a GPU where there is one.
            max_length: longest input in tokens; the model's context if absent.
            add_bos_token: as the harness takes it.
            prefix_token_id: as the harness takes it.
            unknown: refused.

        Raises:
            UserError: no ``pretrained``, an argument that does not exist, a value that is not
                allowed, or no such model, condition, layer or neuron.
        """
        _refuse(unknown)
        if pretrained is None:
            raise UserError("pretrained: missing; a model's name, repository, folder or .gguf file")
        changes = {"revision": revision, "dtype": dtype, "max_batch_tokens": max_batch_tokens}
        spec = _model_spec(pretrained, changes)
        checkpoint = resolve("pretrained", spec, _device(device))
        self._condition = read_condition(condition, checkpoint)
        longest = _input_length(max_length, checkpoint.context)
        self._files = ExitStack()  # as long as the model: offloaded layers are read from them
        folder = self._files.enter_context(leased_folder(checkpoint, spec))
        self._sweeper = load(checkpoint, spec, folder)
        self._share = check_fidelity(self._sweeper).share
        _require_neurons(self._sweeper, self._condition)
        self._budget = TokenBudget(first_budget(self._sweeper, spec))
        with quiet():
            super().__init__(
                pretrained=self._sweeper.model,
                tokenizer=copy.deepcopy(self._sweeper.tokenizer),
                max_length=longest,
                batch_size=batch_size,
                max_batch_size=max_batch_size,
                add_bos_token=add_bos_token,
                prefix_token_id=prefix_token_id,
            )

    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[Answer]:
        """Log-likelihood (nats) of continuations, and whether they are the greedy ones."""
        del disable_tqdm  # the engine scores all at once
        return self._answer(requests)

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[Answer]:
        """Log-likelihood (nats) of whole texts."""
        del disable_tqdm
        return self._answer(requests)

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Text that the clamped model writes.

        Raises:
            FloatingPointError: a logit is NaN or infinite.
        """
        with finite_logits(self._sweeper), clamped(self._sweeper, self._condition) as count:
            written: list[str] = super().generate_until(requests, disable_tqdm)
        self._require_change(count.seen, count.changed)
        return written

    def get_model_info(self) -> dict[str, Any]:
        """What the harness stores beside its results."""
        checkpoint = self._sweeper.checkpoint
        return {
            "model_num_parameters": self._sweeper.model.num_parameters(),
            "model_dtype": checkpoint.dtype,
            "model_revision": checkpoint.revision,
            "model_sha": checkpoint.fingerprint,
            "condition_key": self._condition.key,
            "num_clamped_neurons": self._condition.num_neurons,
        }

    def _answer(self, requests: Sequence[Instance]) -> list[Answer]:
        recorder = Recorder(
            self.tokenizer, self.max_length, self.add_bos_token, self.custom_prefix_token_id
        )
        encoded = encode(requests, recorder, greedy=True)
        conditions = [self._condition]
        (scores,) = score_texts(
            self._sweeper, encoded.texts, conditions, self._budget, share=self._share
        )
        scores.require_finite()
        self._require_change(scores.values_seen, scores.values_changed)
        answers = [answer for answer in encoded.answers(requests, scores) if answer is not None]
        for request, answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial(request.request_type, request.args, answer)
        return answers

    def _require_change(self, seen: int, changed: int) -> None:
        condition = self._condition
        if condition.operation is not None and not (changed or condition.allow_unchanged):
            raise UserError(f"condition: {condition.operation} changed none of {seen} values")


def _refuse(unknown: Mapping[str, Any]) -> None:
    for name, value in unknown.items():
        allowed = [key for key in inspect.signature(SweeperLM).parameters if key != "unknown"]
        raise UserError(
            f"{name}: unknown argument (value {shown(value)}); {listed(allowed)}"
            f"{hint(name, allowed)}"
        )


def _model_spec(pretrained: str, changes: Mapping[str, Any]) -> ModelSpec:
    options = model_option(pretrained) or {}
    spec = next(iter(options.values()), None) or ModelSpec(path=pretrained)
    said = {key: value for key, value in changes.items() if value is not None}
    data = {**spec.model_dump(), **said}
    try:
        return ModelSpec.model_validate(data)
    except ValidationError as error:
        raise first_of(problems_of(error, ModelSpec), data) from None


def _device(asked: str | None) -> Literal["cpu", "cuda"]:
    return "cpu" if asked == "cpu" or not torch.cuda.is_available() else "cuda"


def _input_length(asked: Any, context: int) -> int:
    """Longest input in tokens, never beyond what the model has positions for."""
    if asked is None:
        return context
    if type(asked) is not int or not 1 <= asked <= context:
        raise UserError(
            f"max_length: {shown(asked)} is not allowed; allowed is a whole number of at least 1 "
            f"and at most {context}, the model's context"
        )
    return asked


def _require_neurons(model: LoadedModel, condition: Condition) -> None:
    try:
        with clamped(model, condition):
            pass
    except ValueError as error:
        raise UserError(f"condition.neurons: {error}") from error
