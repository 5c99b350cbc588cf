"""The classification task: its classes and its refusals."""

import numpy as np
import pytest

from edgegraft import catalog
from edgegraft.tasks.classification import Classification
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.signal import Windows


def make_windows(labels):
    return Windows.of(np.zeros((len(labels), 1, 8)), y=labels)


def test_classes_are_sorted_and_leave_out_unlabelled():
    assert Classification().classes(make_windows(["walk", "", "sit", "walk"])) == ("sit", "walk")


@pytest.mark.parametrize(
    ("labels", "code"), [(["", ""], "labels-missing"), (["a", "", "a"], "one-class")]
)
def test_too_few_classes_are_refused(labels, code):
    with pytest.raises(DataError) as caught:
        Classification().classes(make_windows(labels))
    assert caught.value.code == code


def test_misspelt_primary_metric_names_the_nearest():
    with pytest.raises(OptionError, match="macro_f1") as caught:
        Classification(primary="makro_f1")
    assert caught.value.code == "metric-unknown"


def test_task_is_found_by_name_and_measures_its_primary():
    task = catalog.find("tasks", "classification")()
    assert task.primary == "macro_f1"
    assert task.metrics[task.primary](np.eye(3), np.arange(3)) == 1.0
