"""Real recordings, where they stand beside the checkout."""

from pathlib import Path

import pytest
from data_toys import outcome, quarantine

from edgegraft.data.audit import audit
from edgegraft.data.dataset import open_data
from edgegraft.data.split import folds, leave_one_group_out

SHARED = Path(__file__).parents[2].parent / "shared/data"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(
        not SHARED.exists(), reason="the development data is not beside the checkout"
    ),
]


def test_uci_har_opens_splits_by_person_and_its_overlap_is_seen():
    windows = open_data(SHARED / "uci_har" / "train.npz").windows()
    assert windows.x.shape == (2400, 9, 128)
    for fold in [*folds(windows, 5, seed=0), *leave_one_group_out(windows)]:
        assert not set(windows.groups[fold.train]) & set(windows.groups[fold.test])
    found = audit(windows, open_data(SHARED / "uci_har" / "test.npz"))
    assert not found.trouble
    assert "content-repeated" in found.codes


def test_other_formats_say_what_is_expected():
    assert outcome(SHARED / "umafall")[0] == {"window-shape"}
    assert outcome(SHARED / "cwru_bearing")[0] == {"npz-keys"}
    assert outcome(SHARED / "cmapss" / "train_FD001.txt")[0] == {"delimiter-unknown"}


def test_hourly_tables_open():
    dataset = open_data(SHARED / "ett" / "ETT-small" / "ETTh1.csv")
    assert dataset.rate_hz == pytest.approx(1 / 3600)
    assert dataset.account.accepted == 17_420


def test_a_repeated_hour_in_a_real_log_is_found():
    known = open_data(SHARED / "nab" / "data" / "realKnownCause")
    assert quarantine(known)["clock-change"] == 1
    file = SHARED / "nab" / "data" / "realKnownCause" / "machine_temperature_system_failure.csv"
    assert outcome(file)[0] == {"clock-change"}
    assert open_data(file, timezone="America/New_York").account.rows_in == 22_695
