"""Lines at the orders of a shaft and of bearing faults: what is found in made-up machines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from machines import BEARING, GIVEN, machine, windows

from edgegraft import catalog
from edgegraft.testing.backbones import check_backbone
from edgegraft.testing.ground import assert_portable
from edgegraft.zoo import fourier
from edgegraft.zoo.bearing import bearing_from
from edgegraft.zoo.orders import Orders
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.bundle import make
from edgegraft_edge.errors import DataError, OptionError
from edgegraft_edge.program import Draft
from edgegraft_edge.runner import verify
from edgegraft_edge.signal import Windows


def lines(orders: Orders, found: Windows) -> dict[str, np.ndarray]:
    fitted = replace(orders, squashed=False).fit(found, seed=0)
    return dict(zip(fitted.names, fitted.embed(found.x).T, strict=True))


def test_orders_keep_the_contract_of_backbones():
    check_backbone(load_backbone("orders"))


@pytest.mark.parametrize("options", [{"rpm": 1500}, {"speed": "n", "bands": 1}])
def test_the_program_is_portable(options):
    rows = [machine(BEARING.bpfo, seed=seed) for seed in range(4)]
    data = windows(*rows, speeds=(1500, 1480, 1520, 1510) if "speed" in options else ())
    fitted = Orders(**options, **GIVEN).fit(data, seed=0)
    # To 4e-4: whitening brings up lines far below the tones of the shaft, where float32 ends.
    assert_portable(fitted.program(*data.spec.shape), data.x, fitted.embed(data.x), size=4.0)


@pytest.mark.parametrize("fault", ["outer", "inner", "ball"])
def test_the_comb_of_a_fault_stands_out_most(fault):
    order = BEARING.faults[fault]
    data = windows(*(machine(order, seed=seed) for seed in range(3)))
    found = lines(Orders(rpm=1500, **GIVEN), data)
    height = {name: found[f"{name} 1-2, largest"].min() for name in BEARING.faults}
    assert max(height, key=height.get) == fault
    assert height[fault] > 1 + max(value for name, value in height.items() if name != fault)


def test_a_healthy_machine_shows_no_fault_and_its_shaft():
    found = lines(
        Orders(rpm=1500, shaft_orders=6, **GIVEN), windows(*(machine(0, seed=s) for s in range(4)))
    )
    assert all(found[f"{name} 1-3, mean"].max() < 1 for name in BEARING.faults)
    assert found["vib shaft 1, spectrum"].min() > 4 > 2 > found["vib shaft 3, spectrum"].max()


def test_a_channel_of_speed_moves_the_orders_along():
    rows = [machine(BEARING.bpfo, turns, seed=1) for turns in (20.0, 25.0, 31.0)]
    told = lines(Orders(speed="n", **GIVEN), windows(*rows, speeds=(1200, 1500, 1860)))
    assert told["outer 1-2, largest"].min() > 2.5
    number = lines(Orders(rpm=1500, **GIVEN), windows(*rows))
    assert number["outer 1-2, largest"][[0, 2]].max() < 2
    assert told["outer 1-2, largest"][1] == pytest.approx(number["outer 1-2, largest"][1], abs=0.05)


def test_speed_in_turns_a_second():
    data = windows(machine(BEARING.bpfo), machine(0), speeds=(25.0, 25.0))
    found = lines(Orders(speed="n", speed_unit="hz", **GIVEN), data)
    assert found["outer 1-2, largest"][0] > 2.5


def test_the_transform_in_two_stages_is_the_transform():
    x = np.random.default_rng(0).normal(size=(2, 3, 100)).astype(np.float32)
    grid, draft = fourier.Grid.of(100), Draft()
    found = fourier.plane(draft, "x", grid, 3, grid.n_half)
    real, imaginary = fourier.bins(draft, found, grid, 3, grid.n_half)
    both = draft.finish(draft.add("concat", real, imaginary, axis=2)).run(x)
    expected = np.fft.fft(x)[:, :, :50]
    np.testing.assert_allclose(both[:, :, :50], expected.real, atol=2e-4)
    np.testing.assert_allclose(both[:, :, 50:], expected.imag, atol=2e-4)


def test_the_envelope_of_a_band_is_that_of_the_analytic_signal():
    x = np.random.default_rng(1).normal(size=(1, 1, 400)).astype(np.float32)
    grid, draft = fourier.Grid.of(400), Draft()
    plane = fourier.plane(draft, "x", grid, 1, grid.n_half)
    envelope = fourier.power(draft, fourier.band(draft, plane, grid, 1, (2, 7)))
    small = fourier.band_grid(grid, (2, 7))
    bins = np.fft.fft(x[0, 0])
    kept = np.zeros(400, complex)
    kept[40:140] = bins[40:140]
    exact = np.abs(np.fft.ifft(kept) * 400) ** 2
    found = draft.finish(envelope).run(x)[0, 0]
    np.testing.assert_allclose(found, exact[:: 400 // small.n_points], rtol=2e-3, atol=0.5)


def test_a_bearing_from_geometry_or_orders():
    assert BEARING.bpfo == pytest.approx(3.585, abs=2e-3)
    assert BEARING.bpfi == pytest.approx(5.415, abs=2e-3)
    assert bearing_from({"rpm": 0}) is None
    found = bearing_from({"bpfo": 3.585, "bpfi": 5.415, "bsf": 2.357})
    assert found.ftf == pytest.approx(0.398, abs=1e-3)


@pytest.mark.parametrize(
    "values",
    [
        {"n_balls": 9},
        {"n_balls": 9, "ball_mm": 50, "pitch_mm": 39},
        {"bpfo": 5.4, "bpfi": 3.6, "bsf": 2.3},
        {"bpfo": 3.4, "bpfi": 5.2, "bsf": 2.3, "ftf": 0.7},
        {"n_balls": 9, "ball_mm": 8, "pitch_mm": 39, "bpfo": 3.6},
    ],
)
def test_what_describes_no_bearing_is_refused(values):
    with pytest.raises(OptionError) as caught:
        bearing_from(values)
    assert caught.value.code == "bearing-form"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"n_balls": 9, "ball_mm": 7.9, "pitch_mm": 39.0}, "speed-missing"),
        ({"speed": "m"}, "channel-missing"),
        ({"rpm": 15.0}, "window-short"),
        ({"speed": "vib"}, "speed-still"),
    ],
)
def test_what_has_no_orders_is_refused(options, code):
    still = windows(machine(0) - 100, machine(0) - 100, speeds=(1500, 1500))
    with pytest.raises((DataError, OptionError)) as caught:
        Orders(**options).fit(still, seed=0)
    assert caught.value.code == code


def test_an_unknown_rate_has_no_orders():
    data = windows(machine(0))
    data = replace(data, spec=replace(data.spec, rate_hz=1.0))
    with pytest.raises(DataError) as caught:
        Orders(rpm=1500).fit(data, seed=0)
    assert caught.value.code == "rate-missing"


def test_options_by_name():
    backbone = load_backbone("orders:rpm=1772,n_balls=9,ball_mm=7.94,pitch_mm=39.04,bands=2")
    assert (backbone.rpm, backbone.n_balls, backbone.bands) == (1772, 9, 2)
    assert backbone.card.name.startswith("orders:rpm=1772")


@pytest.mark.parametrize(
    ("text", "code"), [("rmp=1772", "option-unknown"), ("rpm=fast", "option-value"),
                       ("mean=3", "option-unknown")],
)  # fmt: skip
def test_options_that_are_none_are_refused(text, code):
    with pytest.raises(OptionError) as caught:
        load_backbone(f"orders:{text}")
    assert caught.value.code == code


SLOW = ("c", "executorch")  # compiled


@pytest.mark.parametrize("options", [{"rpm": 1500}, {"speed": "n"}])
@pytest.mark.parametrize(
    "runtime", ["onnx", "litert", *(pytest.param(n, marks=pytest.mark.slow) for n in SLOW)]
)
def test_runtimes_see_the_same_lines(runtime, options):
    rows = [machine(order, seed=s)[:3000] for s, order in enumerate([3.585, 5.415, 4.714, 0])]
    data = windows(*rows, speeds=(1500, 1480, 1520, 1510) if "speed" in options else ())
    fitted = Orders(**options, **GIVEN, bands=2, shaft_orders=3).fit(data, seed=0)
    draft = Draft()
    lines = draft.call(fitted.program(*data.spec.shape))
    weight = np.random.default_rng(0).normal(0, 0.3, (len(fitted.names), 3))
    program = draft.finish(draft.add("softmax", draft.add("matmul", lines, weight), axis=-1))
    bundle = make(program, data.spec, ("a", "b", "c"), golden=data.x)
    assert np.ptp(bundle.expected, axis=0).min() > 0.05
    exported = catalog.find("exporters", runtime)().export(bundle)  # which compares, too
    assert all(parity.ok for parity in verify(exported))
