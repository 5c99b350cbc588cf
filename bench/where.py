"""Where in the picture: do maps point at defects, and does patch memory find what it never saw?

    python bench/where.py --data NEU_FOLDER --network mobilenet_v1_0.25_128_quant.tflite

Steel surfaces with boxes around the defects (NEU). *Pointing*: a classifier of 25 labels per class
never sees a box; the share of other pictures in which its map is strongest inside one (Zhang et
al., Top-down Neural Attention, 2016), beside the share of the picture that boxes cover. *Normal or
not*: crops of 64 x 64 pixels without any box are normal, crops that a box covers by half are not;
memories see normal crops of half of the pictures, and are scored on the crops of the other half.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

import edgegraft as eg
from edgegraft.adapt.strategy import build_strategy
from edgegraft.data.split import few_shot
from edgegraft.evaluate.where import activation_maps
from edgegraft.tasks.anomaly import ANOMALY, Anomaly
from edgegraft.tasks.classification import Classification
from edgegraft.zoo.registry import load_backbone
from edgegraft_edge.signal import GREY, Array, ImageSpec, Windows

SIDE = 64


def box_masks(windows: Windows, folder: Path) -> Array:
    """Bool (n_windows, height, width): where a box lies."""
    boxes = defaultdict(list)
    with (folder / "boxes.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            edges = [int(float(row[key])) for key in ("xmin", "ymin", "xmax", "ymax")]
            boxes[Path(row["file_name"]).stem].append(edges)
    masks = np.zeros((len(windows), *windows.x.shape[2:]), bool)
    for mask, number in zip(masks, windows.recording, strict=True):
        for left, top, right, bottom in boxes[Path(windows.names[number]).stem]:
            mask[top:bottom, left:right] = True
    return masks


def pointing(windows: Windows, masks: Array, network: str, seed: int) -> dict[str, float]:
    few = few_shot(windows, 25, seed=seed)
    rest = np.setdiff1d(np.arange(len(windows)), few)
    test = np.random.default_rng(seed).choice(rest, 60, replace=False)
    adapted = build_strategy("probe").adapt(
        load_backbone(network), windows.take(few), Classification(), seed=seed
    )
    maps = activation_maps(adapted.program, windows.x[test])
    inside = [
        bool(mask[np.unravel_index(int(heat.argmax()), heat.shape)])
        for heat, mask in zip(maps, masks[test], strict=True)
    ]
    return {"inside a box": float(np.mean(inside)), "covered by boxes": float(masks[test].mean())}


def crops(windows: Windows, masks: Array) -> tuple[Windows, Array]:
    """Crops that are clearly one or the other, and the picture that each is from."""
    x, y, picture = [], [], []
    for number, (image, mask) in enumerate(zip(windows.x, masks, strict=True)):
        for i in range(0, image.shape[1] - SIDE + 1, SIDE):
            for j in range(0, image.shape[2] - SIDE + 1, SIDE):
                covered = mask[i : i + SIDE, j : j + SIDE].mean()
                if covered == 0 or covered >= 0.5:
                    x.append(image[:1, i : i + SIDE, j : j + SIDE])
                    y.append("normal" if covered == 0 else ANOMALY)
                    picture.append(number)
    spec = ImageSpec(SIDE, SIDE, GREY)
    groups = np.array([f"p{number}" for number in picture])
    return Windows(np.stack(x), np.array(y), groups, spec), np.array(picture)


def normality(windows: Windows, masks: Array, networks: dict[str, str], seed: int) -> dict:
    cut, picture = crops(windows, masks)
    random = np.random.default_rng(seed)
    known = np.isin(picture, random.permutation(len(windows))[: len(windows) // 2])
    normal = np.flatnonzero(known & (cut.y == "normal"))
    train = cut.take(random.choice(normal, min(300, len(normal)), replace=False))
    test = cut.take(random.choice(np.flatnonzero(~known), 600, replace=False))
    found = {}
    for name, backbone in networks.items():
        strategy = "distance" if backbone == "texture" else "patch-memory"
        adapted = build_strategy(strategy).adapt(
            load_backbone(backbone), train, Anomaly(normal="normal"), seed=seed
        )
        said = adapted.predict(test)
        score = said.probabilities[:, said.classes.index(ANOMALY)]
        alarms = said.labels == ANOMALY
        found[f"{name}, {strategy}"] = {
            "AUROC": float(roc_auc_score(test.y == ANOMALY, score)),
            "false alarms": float(alarms[test.y != ANOMALY].mean()),
            "found": float(alarms[test.y == ANOMALY].mean()),
        }
    return found


def table(results: dict) -> str:
    lines = ["# Where in the picture", "", f"Means (deviations) over {results['seeds']} draws.", ""]
    lines += ["| pointing | share |", "|---|---|"]
    for name in results["pointing"][0]:
        values = [each[name] for each in results["pointing"]]
        lines.append(f"| {name} | {np.mean(values):.3f} ({np.std(values, ddof=1):.3f}) |")
    measures = ["AUROC", "false alarms", "found"]
    lines += ["", f"| normal or not | {' | '.join(measures)} |", "|---|---|---|---|"]
    for name in results["normality"][0]:
        cells = [[each[name][key] for each in results["normality"]] for key in measures]
        text = " | ".join(f"{np.mean(c):.3f} ({np.std(c, ddof=1):.3f})" for c in cells)
        lines.append(f"| {name} | {text} |")
    lines += ["", "Five false alarms in a hundred were asked for."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--network", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    windows = eg.open_data(asked.data).windows()
    masks = box_masks(windows, asked.data)
    networks = {"ImageNet network": asked.network, "texture": "texture"}
    networks |= {"random network": "mobilenet-v1-0.25"}
    with threadpool_limits(limits=1):
        import torch

        torch.set_num_threads(1)
        results = {
            "seeds": asked.seeds,
            "pointing": [pointing(windows, masks, asked.network, s) for s in range(asked.seeds)],
            "normality": [normality(windows, masks, networks, s) for s in range(asked.seeds)],
        }
    (asked.out / "where.json").write_text(json.dumps(results, indent=1) + "\n")
    (asked.out / "where.md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
