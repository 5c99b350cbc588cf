"""Makes the weights that ship as `mixer-series`, from made-up series alone.

    python bench/pretrain_mixer.py --out OUT.safetensors

No recording is read, so the weights owe no one a licence and may be tested on any data. About 15
minutes of one core. A run that was killed goes on from OUT.checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from edgegraft.adapt.pretrain import save
from edgegraft.adapt.pretrain_mixer import MixerTraining, pretrain_mixer


def show(event: str, values: dict) -> None:
    if values.get("epoch", 1) % 10 == 0:
        print(f"epoch {values['epoch']}/{values['epochs']}  loss {values['loss']:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    mixer = pretrain_mixer(
        MixerTraining(epochs=asked.epochs),
        name="mixer-series",
        seed=asked.seed,
        watch=show,
        checkpoint=asked.out.with_suffix(".checkpoint"),
    )
    print(save(mixer, asked.out))


if __name__ == "__main__":
    main()
