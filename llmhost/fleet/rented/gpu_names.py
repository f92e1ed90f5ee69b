"""The cards by the names people write and by those of the market."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

# The market's names (vast facts §1.5) and the memory of one card in MiB, as its driver says it or the maker's figure.
CARDS: dict[str, int] = {
    "RTX 3060": 12_288,
    "RTX 3070": 8_192,
    "RTX 3080": 10_240,
    "RTX 3080 Ti": 12_288,
    "RTX 3090": 24_576,
    "RTX 3090 Ti": 24_564,
    "RTX 4060": 8_188,
    "RTX 4060 Ti": 16_380,
    "RTX 4070": 12_282,
    "RTX 4070 Ti": 12_282,
    "RTX 4070S": 12_282,
    "RTX 4070S Ti": 16_376,
    "RTX 4080": 16_376,
    "RTX 4080S": 16_376,
    "RTX 4090": 24_564,
    "RTX 4090D": 24_564,
    "RTX 5060 Ti": 16_311,
    "RTX 5070": 12_227,
    "RTX 5070 Ti": 16_303,
    "RTX 5080": 16_303,
    "RTX 5090": 32_607,
    "RTX A4000": 16_376,
    "RTX A4500": 20_470,
    "RTX A5000": 24_564,
    "RTX A6000": 49_140,
    "RTX 4000Ada": 20_475,
    "RTX 4500Ada": 24_570,
    "RTX 5000Ada": 32_760,
    "RTX 5880Ada": 49_140,
    "RTX 6000Ada": 49_140,
    "RTX PRO 4000": 24_467,
    "RTX PRO 4500": 32_623,
    "RTX PRO 5000": 48_935,
    "RTX PRO 6000": 97_887,
    "RTX PRO 6000 S": 97_887,
    "RTX PRO 6000 WS": 97_887,
    "RTX PRO 6000 Max-Q": 97_887,
    "Titan RTX": 24_576,
    "Tesla T4": 15_360,
    "Tesla V100": 16_384,
    "Q RTX 8000": 49_152,
    "A10": 23_028,
    "A40": 46_068,
    "L4": 23_034,
    "L40": 46_068,
    "L40S": 46_068,
    "A100 PCIE": 40_960,
    "A100 SXM4": 81_920,
    "A100X": 81_920,
    "H100 PCIE": 81_559,
    "H100 SXM": 81_559,
    "H100 NVL": 95_830,
    "GH200 SXM": 97_871,
    "H200": 143_771,
    "H200 NVL": 143_771,
    "B200": 183_359,
}
# Those of which there is nearly always one to rent, the smallest first.
COMMON = (
    "RTX 3060",
    "RTX 4060 Ti",
    "RTX 4090",
    "RTX 3090",
    "RTX 5090",
    "L40S",
    "RTX A6000",
    "A100 SXM4",
    "H100 SXM",
    "H200",
    "B200",
)
# Cards that need CUDA 12.8, by the beginning of their names (vast facts §4.3).
_NEW = ("RTX 50", "RTX PRO", "B200")
_NEW_BUT_OLD = ("RTX 5000Ada",)
NEW_CUDA = 12.8


def market_names(written: str) -> tuple[str, ...]:
    """The market's names for what a user wrote: `RTX_4090`, `rtx 4090`, `H100` (any of them), `H100_SXM`.

    A name that is not known here is passed on as it is, with blanks for underscores: the market may have newer cards.
    """
    wanted = _plain(written)
    exact = tuple(name for name in CARDS if _plain(name) == wanted)
    if exact:
        return (*exact, *(name for name in CARDS if _variant_of(name, wanted) and name not in exact))
    return tuple(name for name in CARDS if _variant_of(name, wanted)) or (" ".join(written.replace("_", " ").split()),)


def near_names(written: str, offered: Iterable[str] = ()) -> list[str]:
    """Names that may have been meant, as a user writes them."""
    plain = {_plain(name): name for name in (*CARDS, *offered)}
    near = difflib.get_close_matches(_plain(written), plain, n=3, cutoff=0.6)
    return [plain[each].replace(" ", "_") for each in near]


def is_known(written: str) -> bool:
    """Whether it stands for cards of the table."""
    return all(name in CARDS for name in market_names(written))


def min_cuda(gpu: str, usual: float) -> float:
    """The CUDA release a card's driver must know: 12.8 for the newest, `usual` for the others."""
    newest = gpu.startswith(_NEW) and gpu not in _NEW_BUT_OLD
    return max(usual, NEW_CUDA) if newest else usual


def at_least(vram_mb: int, most: int = 3) -> list[str]:
    """The smallest common cards with so much memory, as a user writes them."""
    return [name.replace(" ", "_") for name in COMMON if CARDS[name] >= vram_mb][:most]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().removeprefix("nvidia").removeprefix(" geforce"))


def _variant_of(name: str, wanted: str) -> bool:
    """`H100` is the H100 in each of its forms, while `RTX 3080` is not the `RTX 3080 Ti`."""
    first, _, form = name.partition(" ")
    return _plain(first) == wanted and form in ("PCIE", "SXM", "SXM4", "NVL")
