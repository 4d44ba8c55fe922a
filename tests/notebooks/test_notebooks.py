"""The notebooks run from top to bottom, say what they claim, and are kept without their outputs.

Those that build a lab need root; without it they fail, and say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
PICTURES = {"plot.": "image/png", "SVG(": "image/svg+xml"}  # what is called, and what is seen of it


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom_and_shows_its_pictures(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(path.parents[1]))  # the tree under test, installed or not
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    lines = [line for cell in _code(notebook) for line in cell.source.splitlines() if not line.startswith(("from", "import"))]
    pictures = {form: sum(call in line for line in lines) for call, form in PICTURES.items()}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}).execute()
    shown = {form: sum(form in output.get("data", {}) for cell in _code(notebook) for output in cell.outputs) for form in pictures}
    assert shown == pictures
    assert any(shown.values())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    assert [cell.id for cell in _code(notebook) if cell.outputs or cell.execution_count is not None] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_defines_nothing_that_belongs_into_the_package(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    assert [line for cell in _code(notebook) for line in cell.source.splitlines() if line.startswith(("def ", "class "))] == []


def _code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
