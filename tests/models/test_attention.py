"""Attention and its layers are torch's, with and without padding; positions are what the paper says."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from course_utils.models.attention import Attention, DecoderLayer, EncoderLayer, sine_positions


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def like_torch(ours: Attention) -> nn.MultiheadAttention:
    """torch's attention with the same weights."""
    theirs = nn.MultiheadAttention(len(ours.query.weight), ours.heads, batch_first=True)
    parts = ours.query, ours.key, ours.value
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj = ours.output
    return theirs


def copy_weights(ours: nn.Module, theirs: nn.Module, attentions: dict[str, str]) -> None:
    """Give a layer of torch the weights of ours."""
    for mine, name in attentions.items():
        setattr(theirs, name, like_torch(getattr(ours, mine)))
    theirs.linear1, _, theirs.linear2 = ours.feed_forward
    for name in ("norm1", "norm2", "norm3"):
        if hasattr(ours, name):
            setattr(theirs, name, getattr(ours, name))


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_is_torchs(heads: int, padded: bool) -> None:
    ours = Attention(16, heads)
    theirs = like_torch(ours)
    inputs = [torch.rand(2, n, 16, requires_grad=True) for n in (3, 5, 5)]
    mask = torch.tensor([[True] * 5, [True, True, False, True, False]]) if padded else None
    result, weights = theirs(
        *inputs,
        key_padding_mask=None if mask is None else ~mask,
        average_attn_weights=False,
    )
    assert_close(ours(*inputs, mask), result)
    assert_close(ours.weights(*inputs[:2], mask), weights)
    assert_close(ours.weights(*inputs[:2], mask).sum(dim=3), torch.ones(2, heads, 3))
    upstream = torch.rand_like(result)
    mine = torch.autograd.grad((ours(*inputs, mask) * upstream).sum(), inputs)
    assert_close(mine, torch.autograd.grad((result * upstream).sum(), inputs))


def test_the_layers_are_torchs_without_positions() -> None:
    tokens, queries = torch.rand(2, 6, 16), torch.rand(2, 3, 16)
    nowhere = torch.zeros(1, 1, 16)
    encoder = EncoderLayer(16, 4, 24)
    theirs = nn.TransformerEncoderLayer(16, 4, 24, dropout=0, batch_first=True)
    copy_weights(encoder, theirs, {"self_attention": "self_attn"})
    assert_close(encoder(tokens, nowhere.expand(1, 6, 16)), theirs(tokens))
    decoder = DecoderLayer(16, 4, 24)
    theirs = nn.TransformerDecoderLayer(16, 4, 24, dropout=0, batch_first=True)
    copy_weights(
        decoder, theirs, {"self_attention": "self_attn", "cross_attention": "multihead_attn"}
    )
    ours = decoder(queries, nowhere.expand(1, 3, 16), tokens, nowhere.expand(1, 6, 16))
    assert_close(ours, theirs(queries, tokens))


def test_positions_are_added_to_queries_and_keys_but_not_to_values() -> None:
    layer, tokens, positions = EncoderLayer(8, 2, 8), torch.rand(1, 4, 8), torch.rand(1, 4, 8)
    placed = tokens + positions
    seen = layer.self_attention(placed, placed, tokens)
    between = layer.norm1(tokens + seen)
    assert_close(layer(tokens, positions), layer.norm2(between + layer.feed_forward(between)))


def test_padding_changes_nothing_elsewhere() -> None:
    encoder, decoder = EncoderLayer(8, 2, 8), DecoderLayer(8, 2, 8)
    tokens, positions, queries = torch.rand(1, 6, 8), torch.rand(1, 6, 8), torch.rand(1, 2, 8)
    mask = torch.tensor([[True, True, False, True, False, False]])
    kept = mask[0]
    whole = encoder(tokens, positions, mask)
    assert_close(whole[:, kept], encoder(tokens[:, kept], positions[:, kept]))
    assert_close(
        decoder(queries, queries, tokens, positions, mask),
        decoder(queries, queries, tokens[:, kept], positions[:, kept]),
    )


def test_sines_and_cosines_of_every_wavelength() -> None:
    rows = sine_positions(torch.tensor([[0.3, 0.8]], dtype=torch.float64), 6, 100.0)
    expected = []
    for coordinate in (0.3, 0.8):
        for k in range(3):
            angle = 2 * math.pi * coordinate / 100 ** (2 * k / 6)
            expected += [math.sin(angle), math.cos(angle)]
    assert_close(rows, torch.tensor([expected], dtype=torch.float64), rtol=0, atol=1e-6)


def test_heads_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="heads: expected a divisor of 10 channels, got 4"):
        Attention(10, 4)
