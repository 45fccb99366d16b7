"""Options of the tests."""


def pytest_addoption(parser):
    parser.addoption(
        "--bank",
        choices=("ranks", "all"),
        default="ranks",
        help="grade the k-th answers of all exercises together (ranks), or each answer alone too (all)",
    )
