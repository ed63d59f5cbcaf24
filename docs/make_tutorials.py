"""Run the tutorials and store their output in them: `python docs/make_tutorials.py [NAME…]`.

The site shows the stored output. Warnings that depend on the machine are left out.
"""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).with_name("tutorials")
SECONDS = 1800  # for each cell, on a busy machine


def executed(path: Path) -> NotebookNode:
    """The notebook in `path` with new output. If a cell fails, CellExecutionError shows it."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=SECONDS, kernel_name="python3", coalesce_streams=True).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # has times
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    notebook.metadata["language_info"] = {"name": "python"}  # without the version of Python
    return notebook


def main(names: list[str]) -> None:
    """Run these tutorials, or all."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not names or path.stem in names:
            nbformat.write(executed(path), path)


if __name__ == "__main__":
    main(sys.argv[1:])
