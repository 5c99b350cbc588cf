"""Real recordings, where they stand beside the checkout."""

from pathlib import Path

import numpy as np
import pytest
from data_toys import outcome, quarantine

from edgegraft.data.audit import audit
from edgegraft.data.dataset import Dataset, open_data
from edgegraft.data.question import Question
from edgegraft.data.split import folds, leave_one_group_out
from edgegraft_edge.signal import Channel, Recording

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


def test_doctor_finds_the_day_and_the_trend_of_the_transformers():
    path = SHARED / "ett/ETT-small/ETTh1.csv"
    asked = Question("forecasting", context=12, horizon=96)
    found = {finding.code: finding for finding in audit(path, asked=asked).findings}
    assert "every 24 samples (24 h)" in found["seasonality"].text
    assert "season-beyond-context" in found
    assert "OT" in found["trend-leak"].text
    assert "target-leakage" not in found


def test_doctor_finds_that_cycles_count_the_life_of_engines():
    raw = np.loadtxt(SHARED / "cmapss/train_FD001.txt", dtype=np.float32)
    names = ["cycle", "set1", "set2", "set3", *(f"s{number}" for number in range(1, 22))]
    recordings = tuple(
        Recording(
            raw[raw[:, 0] == unit][:, 1:].T,
            tuple(map(Channel, names)),
            1.0,
            group=f"engine {int(unit)}",
            name=f"engine {int(unit)}",
        )
        for unit in np.unique(raw[:, 0])
    )
    asked = Question("regression", target=("remaining",))
    found = {finding.code: finding for finding in audit(Dataset(recordings), asked=asked).findings}
    assert found["channel-counts"].text.startswith("cycle only counts")
    assert not {"target-leakage", "units-few", "unit-cut"} & set(found)
