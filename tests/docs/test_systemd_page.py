"""packaging/doc/systemd.md shows the data of the tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import systemd_page
from tests.docs.documents import put
from tests.packages.matrix import results
from tests.packages.matrix.__main__ import SUITES
from tests.packages.matrix.rows import ROWS

WRITE_ANEW = "packaging/doc/systemd.md is out of date: run `.venv/bin/python -m tests.docs.systemd_page`."


@pytest.mark.parametrize("name", systemd_page.MADE)
def test_the_page_is_current(name: str) -> None:
    """Each table is the one that `python -m tests.docs.systemd_page` writes."""
    text = systemd_page.PAGE.read_text()
    assert put(text, name, systemd_page.MADE[name]()) == text, WRITE_ANEW


def test_the_matrix_is_whole() -> None:
    """It has every suite and every row of the tests, in their order, and no row failed."""
    columns = results.kept()
    assert [column.suite for column in columns] == list(SUITES), "run `make matrix` for the suite that is missing"
    for column in columns:
        assert list(column.cells) == [row.name for row in ROWS], f"run `make matrix SUITES={column.suite}`"
        assert "**failed**" not in column.cells.values()


def test_a_suite_that_is_not_tried_keeps_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make matrix` writes the columns of the suites that it tried, and leaves the others."""
    columns = results.kept()
    copy = tmp_path / "results.json"
    copy.write_text(results.KEPT.read_text())
    monkeypatch.setattr(results, "KEPT", copy)
    results.keep([columns[0]._replace(cells={"start": "new"})])
    assert results.kept()[1:] == columns[1:]
    assert results.kept()[0].cells == {**columns[0].cells, "start": "new"}
