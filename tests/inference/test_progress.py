import io
import os
import re
import subprocess
import sys

import pluggy
import pytest

from openfoldpp.inference.progress import ProgressReporter
from openfoldpp.plugins import hookspecs
from openfoldpp.types import Chain, ProgressEvent, Target

TARGET = Target("trastuzumab", (Chain("trastuzumab", "EV"),))

PROGRAM = """
import sys
from openfoldpp.inference.progress import ProgressReporter
from openfoldpp.types import Chain, ProgressEvent, Target
with ProgressReporter() as reporter:
    for phase, fraction in (("load", 0.0), ("predict", 0.4), ("done", 1.0)):
        target = None if phase == "load" else Target("[red]a" + "b" * 200, (Chain("a", "EV"),))
        reporter.openfoldpp_progress(event=ProgressEvent(phase, fraction, target))
print("after", file=sys.stderr)
"""


def test_a_pipe_gets_one_line_for_each_step():
    file = io.StringIO()
    with ProgressReporter(file) as reporter:
        for phase, fraction in [("load", 0), ("predict", 0.25), ("predict", 0.5), ("done", 1.0), ("own", 2)]:
            reporter.openfoldpp_progress(
                event=ProgressEvent(phase, fraction, None if phase == "load" else TARGET)
            )
    lines = file.getvalue().splitlines()
    assert [re.sub(r"^\[ +\d+\.\d s\] ", "", line) for line in lines] == [
        "  0%  loading the model",
        " 25%  trastuzumab: predicting",
        "100%  trastuzumab: done",
        "100%  trastuzumab: own",
    ]


def test_quiet_shows_nothing():
    file = io.StringIO()
    ProgressReporter(file, quiet=True).openfoldpp_progress(event=ProgressEvent("load", 0.0))
    assert file.getvalue() == ""


def test_it_is_a_plugin_for_the_progress_hook(capsys):
    manager = pluggy.PluginManager(hookspecs.PROJECT_NAME)
    manager.add_hookspecs(hookspecs)
    manager.register(ProgressReporter())
    manager.check_pending()
    manager.hook.openfoldpp_progress(event=ProgressEvent("load", 0.0))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "loading the model" in captured.err


def in_terminal(code, **environment):
    """Run in a terminal of 80 columns, and return what it was sent."""
    pty = pytest.importorskip("pty")
    main, side = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdin=side,
        stdout=side,
        stderr=side,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"} | environment,
    ) as process:
        os.close(side)
        sent = b""
        while True:
            try:
                block = os.read(main, 65536)
            except OSError:  # the end of a terminal's output is an error on Linux
                break
            if not block:
                break
            sent += block
    os.close(main)
    assert process.returncode == 0, sent.decode()
    return sent.decode()


def test_a_terminal_gets_a_bar_that_is_closed_and_fits():
    sent = in_terminal(PROGRAM)
    assert "\x1b[?25l" in sent
    bar, after = sent.split("\x1b[?25h")
    assert after.endswith("after\r\n")
    drawn = [re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]+", bar)]
    assert max(map(len, drawn)) <= 80
    assert any(line.startswith("[red]abb") and "100%" in line and "━" in line for line in drawn)


def test_a_dumb_terminal_gets_plain_lines():
    sent = in_terminal(PROGRAM, TERM="dumb")
    assert "\x1b" not in sent
    assert len(sent.splitlines()) == 4
