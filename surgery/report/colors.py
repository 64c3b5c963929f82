"""The colors of figures and of the terminal, as numbers: this file imports nothing, so that a command stays fast."""

from __future__ import annotations

DIVERGING = ("#c05a00", "#f4a660", "#f7f7f5", "#7fb2d8", "#08306b")
"""Orange for negative, white for 0, blue for positive, at equal distances: hues that no common color blindness
confuses. The blue end is much darker than the orange one: strong values of both signs can be distinguished in gray.
"""

SEQUENTIAL = DIVERGING[2:]
"""White for 0 to blue, for numbers that are not negative, on a terminal."""

SUPERCLASSES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
"""The color-blind-safe palette of Okabe and Ito without black and yellow; neighbors also differ in lightness."""

ABSENT = "#d0d0d0"
"""The gray of entries without a value: different from the white of 0."""
