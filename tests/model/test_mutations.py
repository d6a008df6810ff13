"""The defects that scripts/mutations.py puts back can still be put back."""

import shutil
from pathlib import Path

import pytest
from mutations import MUTATIONS, ROOT, Mutation, put_back


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name.replace("`", ""))
def test_a_defect_can_be_put_back_into_the_sources_of_today(mutation: Mutation, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "agent" / "zdd_agent", tmp_path / "zdd_agent", ignore=shutil.ignore_patterns("__pycache__"))
    put_back(mutation, tmp_path)
    for file, _, _ in mutation.edits:
        compile((tmp_path / "zdd_agent" / file).read_text("utf-8"), file, "exec")
