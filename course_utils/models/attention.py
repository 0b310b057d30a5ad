"""Attention: every query looks at all keys, and takes a weighted mean of their values."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention.

    Queries, keys and values are multiplied by a matrix each and cut into heads. In each head the weight of a
    key is the softmax of its scalar products with the query; the results of the heads are put together again.

    Args:
        channels: of queries, keys, values and results.
        heads: how many weighted means are taken; a divisor of `channels`.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2; `nn.MultiheadAttention`.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        if channels % heads:
            raise ValueError(f"heads: expected a divisor of {channels} channels, got {heads}")
        self.heads = heads
        self.query, self.key = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.value, self.output = nn.Linear(channels, channels), nn.Linear(channels, channels)

    def forward(
        self,
        queries: Float[Tensor, "b q c"],
        keys: Float[Tensor, "b k c"],
        values: Float[Tensor, "b k c"],
        mask: Bool[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, "b q c"]:
        """A weighted mean of the values for each query.

        Args:
            queries: what looks.
            keys: what is looked at.
            values: what is taken from there.
            mask: which keys exist; the others are padding. All of them for None.
        """
        mixed = self.weights(queries, keys, mask) @ self._split(self.value(values))
        return self.output(mixed.transpose(1, 2).flatten(2))

    def weights(
        self,
        queries: Float[Tensor, "b q c"],
        keys: Float[Tensor, "b k c"],
        mask: Bool[Tensor, "b k"] | None = None,
    ) -> Float[Tensor, "b heads q k"]:
        """How much each query takes from each key; the weights of a query add up to 1."""
        queries, keys = self._split(self.query(queries)), self._split(self.key(keys))
        products = queries @ keys.transpose(2, 3) / math.sqrt(queries.shape[3])
        if mask is not None:
            products = products.masked_fill(~mask[:, None, None], -torch.inf)
        return products.softmax(dim=3)

    def _split(self, rows: Float[Tensor, "b n c"]) -> Float[Tensor, "b heads n channels"]:
        return rows.unflatten(2, (self.heads, -1)).transpose(1, 2)


def feed_forward(channels: int, hidden: int) -> nn.Sequential:
    """Two fully connected layers, applied to each token by itself."""
    return nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))


class EncoderLayer(nn.Module):
    """Every token looks at all tokens; then each is transformed by itself.

    Both steps are added to the tokens, and the sum is normalised.

    Args:
        channels, heads: as in `Attention`.
        hidden: channels inside `feed_forward`.
        dropout: of what is added.
    """

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float = 0.0):
        super().__init__()
        self.self_attention = Attention(channels, heads)
        self.feed_forward = feed_forward(channels, hidden)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        tokens: Float[Tensor, "b n c"],
        positions: Float[Tensor, "#b n c"],
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b n c"]:
        """The tokens after they looked at each other; positions are added to queries and keys only."""
        placed = tokens + positions
        tokens = self.norm1(
            tokens + self.dropout(self.self_attention(placed, placed, tokens, mask))
        )
        return self.norm2(tokens + self.dropout(self.feed_forward(tokens)))


class DecoderLayer(nn.Module):
    """Every query looks at all queries, then at all tokens of the image; then each is transformed by itself.

    Args:
        channels, heads, hidden, dropout: as in `EncoderLayer`.
    """

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float = 0.0):
        super().__init__()
        self.self_attention = Attention(channels, heads)
        self.cross_attention = Attention(channels, heads)
        self.feed_forward = feed_forward(channels, hidden)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.norm3, self.dropout = nn.LayerNorm(channels), nn.Dropout(dropout)

    def forward(
        self,
        queries: Float[Tensor, "b q c"],
        query_positions: Float[Tensor, "#b q c"],
        tokens: Float[Tensor, "b n c"],
        positions: Float[Tensor, "#b n c"],
        mask: Bool[Tensor, "b n"] | None = None,
    ) -> Float[Tensor, "b q c"]:
        """The queries after they looked at each other and at the image."""
        placed = queries + query_positions
        queries = self.norm1(queries + self.dropout(self.self_attention(placed, placed, queries)))
        seen = self.cross_attention(queries + query_positions, tokens + positions, tokens, mask)
        queries = self.norm2(queries + self.dropout(seen))
        return self.norm3(queries + self.dropout(self.feed_forward(queries)))


def sine_positions(
    coordinates: Float[Tensor, "*rows n"], channels: int, temperature: float = 10000.0
) -> Float[Tensor, "*rows m"]:
    """Sines and cosines of coordinates, in wavelengths from 1 to almost `temperature`.

    A network can compute from them where a token is, and how far it is from another one.

    Args:
        coordinates: relative to the size of the image, 0..1.
        channels: numbers per coordinate, even: sine and cosine of each wavelength in turn.
        temperature: the ratio of the longest wavelength and the shortest, which is 1.

    Returns:
        `n * channels` numbers for each row of coordinates.

    Source: Vaswani et al., NeurIPS 2017, section 3.5; DETR's is scaled to 0..2 pi.

    >>> sine_positions(torch.tensor([0.125]), 4, temperature=4.0)
    tensor([0.7071, 0.7071, 0.3827, 0.9239])
    """
    powers = torch.arange(0, channels, 2, device=coordinates.device) / channels
    angles = 2 * math.pi * coordinates[..., None] / temperature**powers  # [..., n, channels / 2]
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-3)
