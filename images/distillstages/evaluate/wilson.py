"""Wilson's score interval for a share of successes.

Source: E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of the American
Statistical Association 22 (1927) 209–212; recommended over the normal approximation for few trials and for shares near
0 or 1, where benchmarks live, by L. D. Brown, T. T. Cai and A. DasGupta, Statistical Science 16 (2001) 101–133.
"""

from __future__ import annotations

import math
from typing import Final

Z95: Final = 1.959963984540054
"""The 0.975 quantile of the standard normal distribution."""


def interval(successes: float, trials: int, z: float = Z95) -> tuple[float, float]:
    """(low, high) of the share successes/trials, within [0, 1].

    `successes` may be a fraction (a mean over several samples of each trial). Raises ValueError unless
    0 <= successes <= trials and trials >= 1."""
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"expected 0 <= successes <= trials and at least one trial, got {successes} of {trials}")
    share = successes / trials
    z2n = z * z / trials
    centre = (share + z2n / 2) / (1 + z2n)
    half = z / (1 + z2n) * math.sqrt(share * (1 - share) / trials + z2n / (4 * trials))
    # The interval holds the share and lies within [0, 1]; at the ends floating point does not say so by itself.
    low = 0.0 if successes == 0 else min(share, max(0.0, centre - half))
    high = 1.0 if successes == trials else max(share, min(1.0, centre + half))
    return low, high
