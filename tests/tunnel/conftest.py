from __future__ import annotations

import pytest

from tests.support.netns import machine_allows
from tests.tunnel.rig import Rig

# A network that is slow or dead needs namespaces, where the machine allows them; everywhere test_link.py freezes processes instead.
collect_ignore = [] if machine_allows() else ["test_faults_network.py"]


@pytest.fixture
def rig(short_tmp):
    """A real sshd with a stand-in for the node's proxy behind it; nothing is linked yet."""
    made = Rig(short_tmp)
    try:
        yield made.start()
    finally:
        made.close()
