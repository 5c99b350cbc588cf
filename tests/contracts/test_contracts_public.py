"""The public names of the package: listed, lazy, and what they say they are."""

from __future__ import annotations

import subprocess
import sys

import pytest


def fresh(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "first",
    [
        "import edgegraft.adapt.strategy, edgegraft.export.onnx, edgegraft.evaluate.verdict",
        "from edgegraft.adapt.strategy import build_strategy",
        "from edgegraft.adapt import strategy; strategy.build_strategy",
        "from edgegraft import adapt, export, evaluate",
        "import importlib; importlib.import_module('edgegraft.evaluate.bootstrap').intervals",
        "import edgegraft.adapt",
        "import edgegraft, importlib; importlib.reload(edgegraft)",
        "import sys, edgegraft.export.parity; importlib = __import__('importlib');"
        " importlib.reload(sys.modules['edgegraft.export'])",
        "import pickle, edgegraft; pickle.loads(pickle.dumps(edgegraft.adapt))",
        "from unittest import mock; mock.patch('edgegraft.adapt.ridge.fit_ridge').start()",
    ],
)
def test_functions_stay_functions_whatever_is_imported_first(first):
    said = fresh(
        f"{first}\n"
        "import edgegraft as eg, inspect\n"
        "import edgegraft.adapt.probe, edgegraft.export.parity, edgegraft.evaluate.wording\n"
        "verbs = (eg.adapt, eg.evaluate, eg.export)\n"
        "print(*(inspect.isfunction(verb) and verb.__name__ for verb in verbs))"
    )
    assert said == "adapt evaluate export"


def test_importing_the_package_loads_nothing_heavy():
    said = fresh(
        "import sys, edgegraft\n"
        "print([n for n in ('torch', 'sklearn', 'numba', 'matplotlib', 'pyarrow', 'numpy')"
        " if n in sys.modules])"
    )
    assert said == "[]"


def test_the_device_package_loads_numpy_at_most():
    said = fresh(
        "import sys, edgegraft_edge, edgegraft_edge.runner\n"
        "print([n for n in ('torch', 'sklearn', 'scipy', 'numba', 'pyarrow', 'edgegraft',"
        " 'onnxruntime', 'cryptography', 'onnx') if n in sys.modules], 'numpy' in sys.modules)"
    )
    assert said == "[] True"


def test_every_public_name_is_there_and_a_wrong_one_is_not():
    said = fresh(
        "import edgegraft as eg\n"
        "assert all(getattr(eg, name) is not None for name in eg.__all__)\n"
        "assert set(eg.__all__) <= set(dir(eg))\n"
        "try:\n    eg.adept\nexcept AttributeError as error:\n    print('adept' in str(error))"
    )
    assert said == "True"
