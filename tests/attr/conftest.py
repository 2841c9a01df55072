import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    # The tensors are tiny; threads that wait for each other on shared cores cost several times the work.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
