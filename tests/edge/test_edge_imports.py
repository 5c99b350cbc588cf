"""The device package imports NumPy and nothing else that is not of Python itself."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_SCRIPT = """
import importlib, json, pkgutil, sys
before = set(sys.modules)
import edgegraft_edge
names = ["edgegraft_edge"]
if "everything" in sys.argv:
    found = pkgutil.walk_packages(edgegraft_edge.__path__, "edgegraft_edge.")
    names += [entry.name for entry in found if entry.name != "edgegraft_edge.backends.onnx"]
for name in names:
    importlib.import_module(name)
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
foreign = sorted(loaded - set(sys.stdlib_module_names) - {"edgegraft_edge"})
print(json.dumps([len(names), foreign]))
"""


@pytest.mark.parametrize("how", ["package", "everything"])
def test_device_package_loads_numpy_only(how):
    found = subprocess.run(
        [sys.executable, "-c", _SCRIPT, how], capture_output=True, check=True, text=True
    )
    count, foreign = json.loads(found.stdout)
    assert count > 15 if how == "everything" else count == 1
    assert set(foreign) <= {"numpy"}


def test_running_a_bundle_loads_numpy_only(tmp_path, toy_bundle):
    from edgegraft_edge import bundle

    path = bundle.write(tmp_path / "toy.egb", toy_bundle)
    script = (
        "import sys\n"
        "from edgegraft_edge.cli import main\n"
        f"assert main(['verify', {str(path)!r}]) == 0\n"
        "heavy = {'torch', 'onnxruntime', 'sklearn', 'scipy', 'numba', 'edgegraft', 'onnx',\n"
        "         'cryptography', 'pyarrow', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
