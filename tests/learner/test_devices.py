"""A device that is not there is refused in one sentence."""

from __future__ import annotations

import pytest
import torch

from poco.errors import UsageError
from poco.learner.devices import chosen_device


def test_the_processor_is_always_there() -> None:
    """It is what everything runs on unless told otherwise."""
    assert chosen_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:99"])
def test_what_is_not_there_is_refused(name: str) -> None:
    """No such kind, one that cannot learn, and one more than there are."""
    with pytest.raises(UsageError, match=f"--device is .*{name}"):
        chosen_device(name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_a_gpu_is_set_up() -> None:
    """By its kind alone and by its number."""
    assert chosen_device("cuda").type == chosen_device("cuda:0").type == "cuda"
    assert torch.get_float32_matmul_precision() == "high"
