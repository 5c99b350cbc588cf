"""Whom to trust where labels are too few to leave any out: what the pool's structure says."""

from __future__ import annotations
