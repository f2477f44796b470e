"""Runs the notebooks and keeps their outputs: ``python docs/execute_notebooks.py``.

The pages show what was printed then; a test runs the same cells without keeping anything.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent


def execute(path: Path) -> None:
    """Run ``path`` in an empty folder and write its outputs back."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=900, resources={"metadata": {"path": folder}}, kernel_name="python3"
        )
        client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times differ from run to run
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":  # a warning is not for readers, and names our paths
                raise SystemExit(f"{path.name} wrote to stderr: {output['text'][:300]}")
    nbformat.write(notebook, path)


if __name__ == "__main__":
    root = str(HERE.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    for page in sorted(HERE.glob("*.ipynb")):
        execute(page)
