"""What the tests of the building blocks share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_numbers_each_time():
    torch.manual_seed(0)
