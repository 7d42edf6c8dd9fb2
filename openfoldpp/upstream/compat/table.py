"""The records as a table for users: ``docs/compat.md``.

python -m openfoldpp.upstream.compat.table > docs/compat.md
"""

from __future__ import annotations

import re

from openfoldpp.upstream.compat import RECORDS

TRACKER = "https://github.com/aqlaboratory/openfold/issues"

_INTRODUCTION = """\
# What an OpenFold checkout needs today

OpenFold's releases are run as they are, on today's Python, torch, numpy, Biopython, Lightning and OpenMM.
What breaks or warns there is mended while the program runs: no file of OpenFold is changed, and nothing
outside OpenFold stays changed. Each mend is a record, which takes effect only where it is needed.
`openfoldpp doctor` lists those in force on your machine, each with its reason.

Issue numbers are those of [OpenFold's tracker](https://github.com/aqlaboratory/openfold/issues), where one is
known. This page is printed by `python -m openfoldpp.upstream.compat.table`, and a test compares the two.
"""


def table() -> str:
    """Return the page as Markdown: one row for each record."""
    lines = [
        "| record | OpenFold | without it | issues | with it | can go when |",
        "|---|---|---|---|---|---|",
    ]
    for record in RECORDS:
        cells = (
            record.name,
            ", ".join(record.versions),
            record.breaks,
            _linked(record.upstream_issue),
            record.supplies,
            record.drop_when,
        )
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return f"{_INTRODUCTION}\n{chr(10).join(lines)}\n"


def _linked(issues: str | None) -> str:
    # The tracker sends the number of a pull request on to it.
    return re.sub(r"#(\d+)", rf"[#\1]({TRACKER}/\1)", issues or "none known")


if __name__ == "__main__":
    print(table(), end="")
