"""Objects and semantic maps, for the tests of merging them in ops and in fast."""

import torch


def case(seed, count=6, size=(9, 12), classes=6):
    """Rectangles with holes, equal scores among them, and a label map in patches."""
    generator = torch.Generator().manual_seed(seed)
    (height, width), masks = size, torch.zeros(count, *size, dtype=torch.bool)
    for mask in masks:
        top, left, tall, wide = (
            int(torch.randint(low, high, (), generator=generator))
            for low, high in ((0, height), (0, width), (1, height), (1, width))
        )
        mask[top : top + tall, left : left + wide] = True
        mask &= torch.rand(size, generator=generator) < 0.8
    labels = torch.randint(1, 4, (count,), generator=generator)
    scores = torch.randint(3, 10, (count,), generator=generator) / 10
    patches = torch.randint(0, classes, (-(-height // 3), -(-width // 3)), generator=generator)
    semantic = patches.repeat_interleave(3, 0).repeat_interleave(3, 1)[:height, :width].contiguous()
    semantic[torch.rand(size, generator=generator) < 0.1] = 255
    return masks, labels, scores, semantic


def row(*numbers):
    return torch.tensor([numbers])


def strips(*texts):
    """Masks of one row each: "xx.." is two pixels of four."""
    return torch.tensor([[[letter == "x" for letter in text]] for text in texts])
