"""Makes the weights that ship as `conv1d-motion`: UMAFall recordings and made-up signals.

    python bench/pretrain_motion.py --data ../shared/data --out OUT.safetensors

UMAFall (Casilari, Santoyo-Ramon, Cano-Garcia 2017) is free from its authors; here it is read from
`umafall/umafall_20hz.npz` in the folder of development data. `--held-out` leaves people out,
to try a recipe on them. A run that was killed goes on from OUT.checkpoint.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgegraft.adapt.pretrain import Pretraining, pretrain, save
from edgegraft_edge.signal import Windows

RATE_HZ = 20.0
MOST_MISSING = 0.3
CITATION = (
    "E. Casilari, J. A. Santoyo-Ramon, J. M. Cano-Garcia. UMAFall: A multisensor dataset for the "
    "research on automatic fall detection. Procedia Computer Science 110, 2017."
)


def read_umafall(file: Path, held_out: set[int] = frozenset()) -> list[Windows]:
    """One source per body position: whole trials of 15 s, short gaps interpolated."""
    archive = np.load(file, allow_pickle=False)
    keep = ~np.isin(archive["subject"], sorted(held_out))
    x, y = archive["x"][keep], archive["activity"][keep]
    groups = archive["subject"][keep].astype(str)
    time = np.arange(x.shape[1])
    sources = []
    for position in range(x.shape[2]):
        trials, labels, people = [], [], []
        for trial, label, person in zip(x[:, :, position], y, groups, strict=True):
            missing = np.isnan(trial).any(axis=1)
            if missing.mean() > MOST_MISSING:
                continue
            rows = [np.interp(time, time[~missing], channel[~missing]) for channel in trial.T]
            trials.append(rows)
            labels.append(label)
            people.append(person)
        sources.append(Windows.of(np.array(trials), labels, people, rate_hz=RATE_HZ))
    return sources


def show(event: str, values: dict) -> None:
    if values.get("epoch", 1) % 5 == 0:
        print(f"epoch {values['epoch']}/{values['epochs']}  loss {values['loss']:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", type=int, nargs="*", default=[])
    asked = parser.parse_args()
    sources = read_umafall(asked.data / "umafall/umafall_20hz.npz", set(asked.held_out))
    people = 18 - len(asked.held_out)
    encoder = pretrain(
        sources,
        Pretraining(epochs=asked.epochs),
        name="conv1d-motion",
        data=f"UMAFall: {people} people, 15 activities, 4 positions; made-up signals",
        licence="Apache-2.0",
        seed=asked.seed,
        watch=show,
        checkpoint=asked.out.with_suffix(".checkpoint"),
    )
    encoder = replace(encoder, card=replace(encoder.card, citation=CITATION))
    print(save(encoder, asked.out))


if __name__ == "__main__":
    main()
