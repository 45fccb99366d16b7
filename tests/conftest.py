"""Options of the tests, and the fixture that the torch wing shares."""

import pytest
import torch


def pytest_addoption(parser):
    parser.addoption(
        "--bank",
        choices=("ranks", "all"),
        default="ranks",
        help="grade the k-th answers of all exercises together (ranks), or each answer alone too (all)",
    )


@pytest.fixture
def double_precision():
    """float64 is torch's default during the test."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)
