"""The cards on offer and what differs between them.

Memory, bandwidth and compute capability are the makers' figures; prices are invented, in the range that vast facts give for an RTX 4090.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """`ram_mb` and `bandwidth` (GB/s) of one card, `low` to `high` dollars an hour for one, `machines` that offer it."""

    name: str
    ram_mb: int
    bandwidth: float
    compute_cap: int
    tflops: float
    dlperf: float
    low: float
    high: float
    machines: int
    watts: int = 350
    most_per_machine: int = 1


CARDS = (
    Card("RTX 4090", 24564, 886.4, 890, 82.6, 90.2, 0.27, 0.62, 72, 450, 8),
    Card("RTX 3090", 24576, 804.2, 860, 35.6, 47.1, 0.13, 0.29, 14),
    Card("RTX 5090", 32607, 1513.9, 1200, 104.8, 151.0, 0.41, 0.89, 12, 575),
    Card("RTX 3060", 12288, 331.4, 860, 12.7, 16.3, 0.05, 0.11, 6, 170),
    Card("RTX 4060 Ti", 16380, 288.0, 890, 22.1, 25.5, 0.09, 0.16, 4, 165),
    Card("RTX A6000", 49140, 690.1, 860, 38.7, 50.4, 0.39, 0.71, 8, 300),
    Card("RTX 6000Ada", 49140, 831.7, 890, 91.1, 88.0, 0.67, 1.05, 4, 300),
    Card("L40S", 46068, 778.0, 890, 91.6, 84.3, 0.53, 0.98, 6, 350),
    Card("A100 PCIE", 40960, 1347.0, 800, 19.5, 77.7, 0.53, 0.83, 3, 250),
    Card("A100 SXM4", 81920, 1778.1, 800, 19.5, 96.0, 0.79, 1.39, 6, 400, 4),
    Card("H100 PCIE", 81559, 1748.0, 900, 51.2, 201.0, 1.67, 2.29, 4, 350),
    Card("H100 SXM", 81559, 2844.6, 900, 66.9, 288.3, 1.79, 2.79, 8, 700, 8),
    Card("H100 NVL", 95830, 3110.0, 900, 60.0, 262.5, 1.95, 2.69, 4, 400),
    Card("H200", 143771, 3993.0, 900, 66.9, 331.2, 2.35, 3.61, 4, 700, 8),
    Card("Tesla V100", 16384, 897.0, 700, 15.7, 20.7, 0.10, 0.25, 3, 300),
)
COUNTRIES = (
    "Sweden, SE",
    "California, US",
    "Washington, US",
    "Quebec, CA",
    "Germany, DE",
    "Norway, NO",
    "Taiwan, TW",
    "Japan, JP",
    "Poland, PL",
    "France, FR",
    "Iceland, IS",
    "South Korea, KR",
)
