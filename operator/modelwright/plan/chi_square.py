"""The tail of the chi-square distribution, in plain Python: the operator carries no numerical library."""

import math
from statistics import NormalDist

_PRECISION = 1e-12
_MOST_TERMS = 10_000


def tail(x: float, degrees: int) -> float:
    """Return P(X > x) of a chi-square variable X with `degrees` >= 1 degrees of freedom.

    It is the regularised upper incomplete gamma function Q(degrees/2, x/2): by its series below the bulk of the
    distribution (NIST DLMF 8.7.1), by its continued fraction above it (DLMF 8.9.2).
    """
    if x <= 0:
        return 1.0
    a, y = degrees / 2, x / 2
    scale = math.exp(a * math.log(y) - y - math.lgamma(a))
    return 1.0 - scale * _lower_series(a, y) if y < a + 1 else scale * _upper_fraction(a, y)


def critical(degrees: int, alpha: float) -> float:
    """Return the x that a chi-square variable exceeds with probability `alpha`, 0 < alpha < 0.5, to 1e-9 of itself.

    Newton's method on ln P(X > x) from the cube-root approximation of Wilson and Hilferty (1931). The logarithm of the
    tail is concave and almost straight, so a few steps are enough even where alpha is tiny.
    """
    ninth = 2 / (9 * degrees)
    x = max(degrees * (1 - ninth - NormalDist().inv_cdf(alpha) * math.sqrt(ninth)) ** 3, 1e-6)
    for _ in range(100):
        above = tail(x, degrees)
        step = math.log(above / alpha) * above / _density(x, degrees)
        x += step
        if abs(step) < 1e-11 * x:
            break
    return x


def _density(x: float, degrees: int) -> float:
    a = degrees / 2
    return math.exp((a - 1) * math.log(x / 2) - x / 2 - math.lgamma(a)) / 2


def _lower_series(a: float, y: float) -> float:
    term = total = 1 / a
    for n in range(1, _MOST_TERMS):
        term *= y / (a + n)
        total += term
        if term < total * _PRECISION:
            break
    return total


def _upper_fraction(a: float, y: float) -> float:
    # Lentz's method, as Thompson and Barnett (1986) changed it.
    b = y + 1 - a
    c = math.inf
    d = fraction = 1 / b
    for n in range(1, _MOST_TERMS):
        numerator = n * (a - n)
        b += 2
        d = 1 / (b + numerator * d)
        c = b + numerator / c
        fraction *= c * d
        if abs(c * d - 1) < _PRECISION:
            break
    return fraction
