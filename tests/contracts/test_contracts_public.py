"""The public names of the package: listed, lazy, and what they say they are."""

from __future__ import annotations

import subprocess
import sys


def fresh(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_functions_stay_functions_after_packages_of_their_names_are_imported():
    said = fresh(
        "import edgegraft as eg\n"
        "first = eg.adapt\n"
        "import edgegraft.adapt.strategy, edgegraft.export.onnx, edgegraft.evaluate.verdict\n"
        "from edgegraft.adapt.strategy import build_strategy\n"
        "from edgegraft import export\n"
        "print(eg.adapt is first, callable(eg.evaluate), callable(export), build_strategy.__name__)"
    )
    assert said == "True True True build_strategy"


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
