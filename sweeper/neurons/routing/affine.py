"""The best affine map from a layer's MLP inputs to its outputs, without keeping either.

Balogh (2026), section 3: what the map leaves over, delta = output - prediction, tells how nonlinear
the layer is at a token. Least squares needs only sums of products; they are taken in float64 around
a first batch's means, so that the large common part of hidden states does not eat the digits.

Shapes: ``N`` tokens, ``D`` inputs, ``E`` outputs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDING = 1e-12
"""Eigenvalues of the inputs' products below this part of the largest one are rounding."""


@dataclass(slots=True)
class NormalEquations:
    """Sums of products of inputs and outputs, in float64."""

    centre_D: Tensor
    centre_E: Tensor
    products: Tensor
    """Of inputs and inputs, the last row and column being their sums: (D + 1, D + 1)."""
    crossed: Tensor
    """Of inputs and outputs, the last row being the outputs' sums: (D + 1, E)."""

    @classmethod
    def around(cls, inputs_ND: Tensor, outputs_NE: Tensor) -> "NormalEquations":
        """Of no tokens, around the means of these."""
        centre_D, centre_E = inputs_ND.double().mean(0), outputs_NE.double().mean(0)
        size = len(centre_D) + 1
        return cls(
            centre_D=centre_D,
            centre_E=centre_E,
            products=centre_D.new_zeros((size, size)),
            crossed=centre_D.new_zeros((size, len(centre_E))),
        )

    def add(self, inputs_ND: Tensor, outputs_NE: Tensor) -> None:
        """Take in tokens; after an exception nothing is changed."""
        x_NC = self._extended(inputs_ND)
        products = x_NC.T @ x_NC
        crossed = x_NC.T @ (outputs_NE.double() - self.centre_E)
        self.products += products
        self.crossed += crossed

    def solve(self) -> "AffineMap":
        """The map of least squares; of smallest norm where the inputs do not settle it.

        Raises:
            ValueError: there are no tokens.
        """
        if not bool(self.products[-1, -1]):
            raise ValueError("an affine map needs at least one token")
        values, vectors = torch.linalg.eigh(self.products)
        kept = values > ROUNDING * values[-1]
        inverse = torch.where(kept, 1 / values.where(kept, 1.0), 0.0)
        solution = vectors @ (inverse[:, None] * (vectors.T @ self.crossed))
        return AffineMap(self.centre_D, self.centre_E, solution)

    def _extended(self, inputs_ND: Tensor) -> Tensor:
        centred_ND = inputs_ND.double() - self.centre_D
        return torch.cat([centred_ND, centred_ND.new_ones(len(centred_ND), 1)], dim=1)


@dataclass(frozen=True, slots=True)
class AffineMap:
    """An affine map from inputs to outputs."""

    centre_D: Tensor
    centre_E: Tensor
    solution: Tensor
    """(D + 1, E): weights for centred inputs, and in the last row what is added."""

    def residuals(self, inputs_ND: Tensor, outputs_NE: Tensor) -> Tensor:
        """Delta of each token, what the map leaves of its output: float64, (N, E)."""
        centred_ND = inputs_ND.double() - self.centre_D
        predicted_NE = centred_ND @ self.solution[:-1] + self.solution[-1] + self.centre_E
        return outputs_NE.double() - predicted_NE

    def residual_norms(self, inputs_ND: Tensor, outputs_NE: Tensor) -> Tensor:
        """|delta| of each token: float64, shape N."""
        norms: Tensor = torch.linalg.vector_norm(self.residuals(inputs_ND, outputs_NE), dim=1)
        return norms
