"""The scoring engine: each distinct prefix once, each shared layer once, the head where needed.

Texts become a prefix tree, the tree becomes rows with tree attention (``packing``), conditions
share the layers that they agree on (``clamp.fork``), and the output head runs only after places
whose next token is wanted (``head``).

Floating-point sums depend on what else stands in a batch, so another packing gives slightly other
numbers; ``fidelity.noise_floor`` measures by how much.

Shapes: ``B`` rows, ``T`` places of a row, ``D`` hidden size, ``H`` places before wanted tokens.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sweeper.clamp.fork import Fork
from sweeper.models.fused import fused_elementwise
from sweeper.models.layerwise import Layerwise
from sweeper.models.loading import LoadedModel
from sweeper.models.packed import packed_linears
from sweeper.records import Condition
from sweeper.score import longrope
from sweeper.score.allocator import freed_memory_kept
from sweeper.score.head import next_logprobs, relative_logprobs
from sweeper.score.logprobs import within_memory
from sweeper.score.masks import tree_mask
from sweeper.score.memory import TokenBudget
from sweeper.score.packing import Batch, NodeRow, Packing, Wanted, batches, pack
from sweeper.score.texts import Scores, Texts

ROW_LENGTH = {"cpu": 96, "cuda": 512}
"""Wanted places of a row, by type of device: attention grows with it, repeated ancestors shrink."""

LAYER_POSITIONS = {"cpu": 2048, "cuda": 2**15}
"""Places in one call of a layer, by type of device, as far as memory allows: enough for a weight
that is read to be used many times."""

KEPT_PER_POSITION = 8
"""Copies of a batch's hidden states may wait in so many times the budget of positions: a waiting
place needs an order of magnitude less than one inside a layer."""


@dataclass(slots=True)
class Work:
    """What the engine has computed, for reports and benchmarks."""

    nodes: int = 0
    """Distinct prefixes, once for each condition."""
    positions: int = 0
    """Tokens of all texts but the last ones, once for each condition: without a tree."""
    computed: int = 0
    """Places that passed the first layer, repeated ancestors and padding included."""
    layer_places: int = 0
    """Sum over calls of layers of the places that passed."""
    attended: int = 0
    """Sum over calls of layers of the pairs of places that attention looked at, masked or not."""
    heads: int = 0
    """Places that passed the output head."""


def score_texts(
    model: LoadedModel,
    texts: Texts,
    conditions: Sequence[Condition],
    budget: TokenBudget,
    *,
    share: bool = True,
    work: Work | None = None,
) -> list[Scores]:
    """Score all texts under each condition.

    Args:
        model: the loaded model, without clamps.
        texts: what to score.
        conditions: with resolved neurons; equal ones are computed once.
        budget: most positions at once; lowered in place when memory runs out. A longer text is
            computed alone.
        share: use the prefix tree; without it, texts are sorted by length and padded.
        work: takes what was computed.

    Returns:
        One for each condition. A condition under which something overflows has values that are
        no numbers (``Scores.require_finite``).

    Raises:
        ValueError: a text is too short or too long, or a condition names what the model lacks.
        MemoryError: a single place does not fit into memory.
    """
    texts.check(model.checkpoint.context)
    if not conditions:
        return []
    members = longrope.parts(model, texts)
    if len(members) == 1:
        return _score_together(model, texts, conditions, budget, share, work or Work())
    scored = [
        _score_together(
            model, longrope.chosen(texts, part), conditions, budget, share, work or Work()
        )
        for part in members
    ]
    return [longrope.joined(of_parts, members) for of_parts in zip(*scored, strict=True)]


def _score_together(
    model: LoadedModel,
    texts: Texts,
    conditions: Sequence[Condition],
    budget: TokenBudget,
    share: bool,
    work: Work,
) -> list[Scores]:
    fork, packing = Fork(model, conditions), pack(texts, share=share)
    row_length = ROW_LENGTH[model.input_device.type] if share else 1
    run = _Run(model, packing, row_length, fork, len(conditions), budget, work)
    with ExitStack() as stack:
        stack.enter_context(run.fork.installed())
        stack.enter_context(packed_linears(model.layers, model.head))
        if model.input_device.type == "cpu":
            stack.enter_context(fused_elementwise(model.model))
            stack.enter_context(freed_memory_kept())
        run.all()
    return [run.scores(member) for member in range(len(conditions))]


@dataclass(slots=True)
class _Run:
    """The passes over all batches, and where results collect."""

    model: LoadedModel
    packing: Packing
    row_length: int
    fork: Fork
    num: int
    budget: TokenBudget
    work: Work
    logprobs: NDArray[np.float32] = field(init=False)
    greedy: NDArray[np.bool_] | None = field(init=False)
    changed: list[int] = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.num, self.packing.tree.num_nodes)
        self.logprobs = np.full(shape, np.nan, np.float32)
        self.greedy = np.zeros(shape, bool) if self.packing.texts.greedy else None
        self.changed = [0] * self.num

    @torch.inference_mode()
    def all(self) -> None:
        """Score everything."""
        everything = self.packing.cut(self._row_length(), self._layer_positions())
        waiting = [(self.fork.order(), everything)]
        while waiting:
            members, rows = waiting.pop()
            alive = self._num_alive()
            if len(members) > alive:
                waiting.append((members[alive:], rows))
            left = self._score(members[:alive], rows)
            if left:  # memory ran out: the rest goes on with the smaller budget
                again = self.packing.cut_again(left, self._row_length(), self._layer_positions())
                waiting.append((members[:alive], again))
        self.work.nodes += len(self.packing.inputs) * self.num
        self.work.positions += sum(len(row) - 1 for row in self.packing.texts.rows) * self.num

    def _row_length(self) -> int:
        return min(self.row_length, self.budget.positions)

    def _num_alive(self) -> int:
        """Conditions that may be kept apart at once."""
        longest = max(map(len, self.packing.texts.rows), default=1)
        size = max(self._batch_positions(), longest, self._row_length())
        return max(KEPT_PER_POSITION * self.budget.positions // size, 1)

    def _layer_positions(self) -> int:
        return min(self.budget.positions, LAYER_POSITIONS[self.model.input_device.type])

    def _batch_positions(self) -> int:
        """Places of a batch: small enough for its copies to pass the layers together."""
        return max(self._layer_positions() // min(self.num, KEPT_PER_POSITION), 1)

    def _score(self, members: Sequence[int], rows: Sequence[NodeRow]) -> Sequence[NodeRow]:
        """Score rows for conditions that are kept apart at once.

        Returns:
            The rows that are left after memory ran out and the budget was halved.
        """
        done = 0
        for after, batch in batches(self.packing, rows, self._batch_positions()):
            widest = batch.tokens_BT.size * self._copies(batch, members)
            # One text under one condition cannot be made smaller: its error is raised.
            alone = len(members) == 1 and widest == int(batch.positions_BT.max()) + 1
            forward = partial(self._forward, batch, members)
            if within_memory(forward, 1 if alone else widest, 1, self.budget) is None:
                break
            done = after
        return rows[done:]

    def _copies(self, batch: Batch, members: Sequence[int]) -> int:
        """Most copies of a batch in one call of a layer."""
        return min(max(self._layer_positions() // batch.tokens_BT.size, 1), len(members))

    def _forward(self, batch: Batch, members: Sequence[int]) -> bool:
        tokens_BT = torch.from_numpy(batch.tokens_BT).to(self.model.input_device)
        copies = self._copies(batch, members)
        through = self._through(batch, tokens_BT)
        branches = self.fork.forward(through, members, self._counted(batch), copies)
        for branch in branches:
            self._read(batch, branch.members, through.final(branch.hidden_BTD))
        for member, count in self.fork.changed().items():
            self.changed[member] += count
        self._note(batch, members, len(branches))
        return True

    def _through(self, batch: Batch, tokens_BT: Tensor) -> Layerwise:
        if batch.plain:
            return Layerwise(self.model, tokens_BT)
        positions_BT = torch.from_numpy(batch.positions_BT).to(tokens_BT.device)
        ends_BT = torch.from_numpy(batch.ends_BT).to(tokens_BT.device)
        mask = tree_mask(self.model, positions_BT, ends_BT)
        return Layerwise(self.model, tokens_BT, attention_mask=mask, position_ids_BT=positions_BT)

    @staticmethod
    def _counted(batch: Batch) -> Tensor:
        return torch.from_numpy(batch.counted_BT)

    def _read(self, batch: Batch, members: Sequence[int], hidden_BTD: Tensor) -> None:
        """Log-probabilities of what is wanted after this batch's places, for conditions alike."""
        wanted = batch.scored
        values, greedy = next_logprobs(
            self.model, *_at(hidden_BTD, wanted), greedy=self.greedy is not None
        )
        compared = relative_logprobs(self.model, *_at(hidden_BTD, batch.relative))
        for member in members:
            self.logprobs[member, wanted.edges] = values.cpu().numpy()
            self.logprobs[member, batch.relative.edges] = compared.cpu().numpy()
            if self.greedy is not None and greedy is not None:
                self.greedy[member, wanted.edges] = greedy.cpu().numpy()

    def _note(self, batch: Batch, members: Sequence[int], num_branches: int) -> None:
        size, width = batch.tokens_BT.size, batch.tokens_BT.shape[1]
        passes = self.fork.num_layer_passes(members)
        self.work.computed += size
        self.work.layer_places += size * passes
        self.work.attended += size * width * passes
        self.work.heads += len(batch.scored.heads) * num_branches

    def scores(self, member: int) -> Scores:
        """What was found for one condition."""
        rows = range(len(self.packing.texts.rows))
        greedy = self.greedy
        return Scores(
            logprobs=[self.packing.values(self.logprobs[member], row) for row in rows],
            greedy=None
            if greedy is None
            else [self.packing.values(greedy[member], r) for r in rows],
            values_seen=self.fork.num_clamped(member) * len(self.packing.inputs),
            values_changed=self.changed[member],
        )


def _at(hidden_BTD: Tensor, wanted: Wanted) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states before wanted nodes, which of them is before each node, and its token."""
    heads = torch.from_numpy(wanted.heads).to(hidden_BTD.device)
    states_HD = hidden_BTD.flatten(0, 1)[heads]
    return states_HD, torch.from_numpy(wanted.edge_heads), torch.from_numpy(wanted.edge_tokens)
