"""The text as rows of tokens, and the order in which training reads them.

Shapes: N rows of the text, B rows of a step, T positions of the context.
"""

import hashlib
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer
from torch import Tensor

from sweeper.errors import UserError
from sweeper.train.tokenizer import END


def cut(tokenizer: Tokenizer, documents: Sequence[str], context: int) -> Tensor:
    """Join the documents, each with its end mark, and cut them into rows.

    Returns:
        Token ids (N, T + 1) whose first T are inputs and last T the tokens to predict; what does
        not fill a row is left out.

    Raises:
        UserError: the text is shorter than a row.
    """
    end = tokenizer.token_to_id(END)
    ids = [token for row in tokenizer.encode_batch(documents) for token in (*row.ids, end)]
    num_rows = len(ids) // (context + 1)
    if not num_rows:
        raise UserError(f"text: its {len(ids)} tokens do not fill a row of {context + 1}")
    return torch.tensor(ids[: num_rows * (context + 1)]).view(num_rows, context + 1)


class Blocks:
    """Rows in a new random order for each pass over the text; a step's rows follow from its number.

    So a training that goes on in the middle reads what it would have read.
    """

    def __init__(self, rows: Tensor, batch: int, seed: int) -> None:
        """Serve ``batch`` of the rows (N, T + 1) at a time."""
        self._rows = rows
        self._batch = batch
        self._seed = seed
        self._known: tuple[int, Tensor] | None = None

    def of_step(self, step: int) -> Tensor:
        """Rows (B, T + 1) of step ``step``, counted from 0; passes join without a gap."""
        first = step * self._batch
        return torch.stack([self._row(place) for place in range(first, first + self._batch)])

    def _row(self, place: int) -> Tensor:
        epoch, index = divmod(place, len(self._rows))
        return self._rows[self._order(epoch)[index]]

    def _order(self, epoch: int) -> Tensor:
        if self._known is None or self._known[0] != epoch:
            digest = hashlib.sha256(f"{self._seed} {epoch}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
            self._known = epoch, torch.randperm(len(self._rows), generator=generator)
        return self._known[1]
