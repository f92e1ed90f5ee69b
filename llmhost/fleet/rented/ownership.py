"""Whose a rented machine is: the label that every one of ours carries, and how it is read back.

The label is `llmhost/1/<installation>/<fleet>/<node uuid>/<attempt>`, fresh for each attempt to rent. The same text is in the machine's
environment as its claim, which survives a rename in the market's console (vast facts §4.2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmhost.providers.market import Instance

CLAIM = "LLMHOST_CLAIM"
PREFIX = "llmhost/1"
# A second machine that one order made has a row of its own in the ledger: this, then its id.
SECOND = "#"
_LABEL = re.compile(
    r"llmhost/1/(?P<installation>[0-9a-f]{32})/(?P<fleet>[^/\s]{1,64})/(?P<node_uuid>[0-9a-f]{12})/(?P<attempt>[0-9]{1,6})"
)


@dataclass(frozen=True, slots=True)
class Label:
    """A label of llmhost, in its parts. `text` is the whole."""

    installation: str
    fleet: str
    node_uuid: str
    attempt: int

    @property
    def text(self) -> str:
        return new_label(self.installation, self.fleet, self.node_uuid, self.attempt)


def new_label(installation: str, fleet: str, node_uuid: str, attempt: int) -> str:
    """`installation` 32 and `node_uuid` 12 hexadecimal digits; `attempt` counts from 1."""
    return f"{PREFIX}/{installation}/{fleet}/{node_uuid}/{attempt}"


def parse(text: str | None) -> Label | None:
    """None for what no llmhost wrote."""
    found = _LABEL.fullmatch(text.strip()) if text else None
    if found is None:
        return None
    return Label(found["installation"], found["fleet"], found["node_uuid"], int(found["attempt"]))


def ours(instance: Instance, installation: str) -> Label | None:
    """The label by which this installation rented it, or None: somebody else's."""
    for text in (instance.label, instance.claim):
        label = parse(text)
        if label is not None and label.installation == installation:
            return label
    return None


def known_by(instance: Instance, label: str) -> bool:
    """Whether it was rented under this label, whatever it is called now."""
    return label in (instance.label, instance.claim)


def row_of_second(label: str, instance_id: int) -> str:
    """The key in the ledger of one more machine with this label."""
    return f"{label}{SECOND}{instance_id}"


def label_of_row(key: str) -> str:
    """The label on the market of a row of the ledger."""
    return key.partition(SECOND)[0]
