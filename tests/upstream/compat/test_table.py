"""The page for users says what the records say."""

import re
from pathlib import Path

from openfoldpp.upstream.compat import RECORDS
from openfoldpp.upstream.compat.table import table

PAGE = Path(__file__).parents[3] / "docs" / "compat.md"


def test_the_page_is_the_table():
    text = PAGE.read_text(encoding="utf-8")
    assert text == table(), f"python -m openfoldpp.upstream.compat.table > {PAGE}"


def test_every_issue_is_a_link():
    for record in RECORDS:
        assert record.upstream_issue is None or re.fullmatch(r"#\d+(, #\d+)*", record.upstream_issue)
        for number in re.findall(r"\d+", record.upstream_issue or ""):
            link = f"[#{number}](https://github.com/aqlaboratory/openfold/issues/{number})"
            assert link in PAGE.read_text(encoding="utf-8")
