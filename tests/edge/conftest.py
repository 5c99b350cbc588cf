"""A small bundle that the device tests share."""

from __future__ import annotations

import pytest
from edge_toys import make_toy

from edgegraft_edge.bundle import Bundle


@pytest.fixture(scope="session")
def toy_bundle() -> Bundle:
    return make_toy()
