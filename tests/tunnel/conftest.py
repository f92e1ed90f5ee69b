from __future__ import annotations

import pytest

from tests.tunnel.rig import Rig


@pytest.fixture
def rig(short_tmp):
    """A real sshd with a stand-in for the node's proxy behind it; nothing is linked yet."""
    made = Rig(short_tmp)
    try:
        yield made.start()
    finally:
        made.close()
