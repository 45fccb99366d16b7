"""Numbers as text that is the same on every processor.

The last bits of a float64 differ between processors. Rounding hides them, except at a boundary of rounding;
and exact answers (12.5, 0.125) lie exactly there. So the boundaries are moved by a small irrational part of
the last digit, off every short decimal.
"""

import math
from decimal import Decimal

DECIMALS = 4  # the most that are shown
DIGITS = 5  # the most that are shown of the largest number
LARGE = 10**6  # from here on, in powers of ten
SMALLEST = 1e-300  # below this a tolerance is 0
NOISE = 1e-10  # a number without a tolerance is shown as 0 below this, relative to the largest of its row
NUDGE = math.pi * 1e-4


def to_tolerance(number: float, tolerance: float, largest: float) -> str:
    """`number` to the first digit of `tolerance`, at most five digits of `largest` and four decimals.

    `largest` is the size of the numbers it is shown with; tolerance 0 gives four decimals. Integers and bools
    are exact, and shown so.

    >>> to_tolerance(0.011234, 0.0002, 0.0112), to_tolerance(1 / 3, 1e-12, 1 / 3), to_tolerance(7, 0.5, 7)
    ('0.0112', '0.3333', '7')
    """
    if isinstance(number, int):  # a bool is one
        return str(number).lower()
    largest = max(largest, tolerance)
    coarsest = 0 if largest < LARGE else leading(largest)
    place = min(coarsest, leading(tolerance)) if tolerance else -DECIMALS
    if largest:
        place = max(place, min(coarsest, leading(largest) - DIGITS + 1))
    return rounded(number, max(place, -DECIMALS) if largest >= 1e-3 else place)


def to_digits(number: float, largest: float = 0.0) -> str:
    """`number` to three digits, or two below 1e-3; 0 where it is noise beside `largest`.

    >>> [to_digits(x) for x in (12.5, 0.0123, 3.21e-7, 2e-16, 1234567.0)]
    ['12.5', '0.0123', '3.2e-7', '0', '1.23e6']
    """
    size = abs(number)
    if isinstance(number, float) and size <= NOISE * max(largest, 1.0):
        return "0"
    digits = 3 if size >= 1e-3 else 2
    return to_tolerance(number, 10.0 ** (leading(size) - digits + 1) if size else 0.0, size)


def two_digits(tolerance: float) -> str:
    """A tolerance in at most two digits.

    >>> [two_digits(t) for t in (0.0002, 0.25, 1e-12, 3.14159)]
    ['0.0002', '0.25', '1e-12', '3.1']
    """
    if tolerance < SMALLEST:
        return "0"
    exact = Decimal(rounded(tolerance, leading(tolerance) - 1)).normalize()
    plain = 10**-DECIMALS <= exact < LARGE and round(exact, DECIMALS) == exact
    return f"{exact:f}" if plain else f"{exact:e}".replace("e+", "e")


def rounded(number: float, place: int) -> str:
    """`number` to the nearest multiple of 10^place, as 0.0112 or, far from 1, as 1.12e-7; never as -0.0.

    >>> rounded(12.5, 0), rounded(12.499999999999998, 0), rounded(-1e-16, -2)
    ('13', '13', '0.00')
    """
    multiple = math.floor(abs(number) / 10.0**place + 0.5 + NUDGE)
    exact = Decimal(-multiple if number < 0 else multiple).scaleb(place)
    if place >= -DECIMALS and abs(exact) < LARGE:
        return f"{exact:f}"
    digits = min(len(str(multiple)), DIGITS)
    return f"{exact:.{digits - 1}e}".replace("e+", "e") if multiple else "0"


def leading(size: float) -> int:
    """The power of ten of the first digit of a positive number."""
    return math.floor(math.log10(max(size, SMALLEST)) + NUDGE)
