"""Contract checks for whoever adds a backbone, strategy, source, step, exporter, backend or task.

Each ``check_...`` runs a named list of small checks and raises one `AssertionError` that lists
every contract that does not hold. Our own tests run them over everything in the catalog; a
package of yours runs them the same way::

    from edgegraft.testing import check_backbone

    def test_my_backbone_keeps_the_contract():
        check_backbone(MyBackbone())

A check that cannot hold for a good reason is left out by name, with the reason in view:
``check_backbone(mine, leave_out={"long_windows": "trained for 128 timepoints only"})``.
"""

from __future__ import annotations

from edgegraft.testing.backbones import BACKBONE_CHECKS, check_backbone
from edgegraft.testing.estimates import (
    ESTIMATING_TASK_CHECKS,
    ESTIMATOR_CHECKS,
    check_estimating_task,
    check_estimator,
)
from edgegraft.testing.ground import assert_agrees
from edgegraft.testing.runtimes import (
    BACKEND_CHECKS,
    EXPORTER_CHECKS,
    check_backend,
    check_exporter,
)
from edgegraft.testing.samples import (
    sample_pictures,
    sample_sentences,
    sample_series,
    sample_sounds,
    sample_windows,
)
from edgegraft.testing.sources import SOURCE_CHECKS, check_source
from edgegraft.testing.steps import STEP_CHECKS, check_step
from edgegraft.testing.strategies import STRATEGY_CHECKS, check_strategy
from edgegraft.testing.targets import REFUSED, Refusal, check_exports
from edgegraft.testing.tasks import TASK_CHECKS, check_task

__all__ = [
    "BACKBONE_CHECKS",
    "BACKEND_CHECKS",
    "ESTIMATING_TASK_CHECKS",
    "ESTIMATOR_CHECKS",
    "EXPORTER_CHECKS",
    "REFUSED",
    "SOURCE_CHECKS",
    "STEP_CHECKS",
    "STRATEGY_CHECKS",
    "TASK_CHECKS",
    "Refusal",
    "assert_agrees",
    "check_backbone",
    "check_backend",
    "check_estimating_task",
    "check_estimator",
    "check_exporter",
    "check_exports",
    "check_source",
    "check_step",
    "check_strategy",
    "check_task",
    "sample_pictures",
    "sample_sentences",
    "sample_series",
    "sample_sounds",
    "sample_windows",
]
