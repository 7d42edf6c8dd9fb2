"""Signals in every phase of a run: its own exit code, finished targets in place, nothing half-written."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from openfoldpp import files
from openfoldpp.inference import driver
from openfoldpp.inference.interruption import (
    SIGNALS,
    Interrupted,
    interruptible,
    interruption_message,
)

VH = (
    "QVQLQESGPGLVAPSQSLSITCTVSGFSLTGYGVNWVRQPPGKGLEWLGMIWGDGNTDYNSALKSRLSISKDNSKSQVFLKMNSLHTDDTARYYC"
    "ARERDYRLDYWGQGTTLTVSS"
)
VL = (
    "DIVLTQSPASLSASVGETVTITCRASGNIHNYLAWYQQKQGKSPQLLVYYTTTLADGVPSRFSGSGSGTQYSLKINSLQPEDFGSYYCQHFWSTPRTF"
    "GGGTKLEIK"
)


@pytest.fixture(autouse=True)
def signals_are_heard():
    """A shell's background jobs and nohup ignore signals, and so would the processes started here."""
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    for signum in SIGNALS:
        heard = signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL
        signal.signal(signum, heard)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def send(name):
    os.kill(os.getpid(), getattr(signal, name))


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_is_an_exception_and_its_handler_is_put_back(name, code):
    before = [signal.getsignal(signum) for signum in SIGNALS]
    with pytest.raises(Interrupted) as caught, interruptible():
        send(name)
    assert caught.value.exit_code == code
    assert str(caught.value) == f"interrupted by {name}"
    assert [signal.getsignal(signum) for signum in SIGNALS] == before


def test_a_signal_that_is_passed_on_twice_is_one():
    with interruptible():
        with pytest.raises(Interrupted):
            send("SIGTERM")
        send("SIGTERM")


def test_a_later_second_signal_ends_the_process_at_once(tmp_path):
    code = (
        "import os, signal, time\n"
        "from openfoldpp.inference import interruption\n"
        "interruption._SAME_WISH_S = 0.0\n"
        "with interruption.interruptible():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    finally:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(60)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=50).returncode == -signal.SIGTERM


def test_a_signal_that_a_library_swallows_is_heard_at_the_next_check():
    with interruptible() as interruption:
        interruption.check()
        with contextlib.suppress(BaseException):
            send("SIGTERM")
        with pytest.raises(Interrupted, match="SIGTERM"):
            interruption.check()


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible():
            send("SIGHUP")
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_outside_the_main_thread_nothing_is_changed():
    before, within = signal.getsignal(signal.SIGTERM), []

    def run():
        with interruptible():
            within.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert within == [before]


@pytest.mark.parametrize(("finished", "words"), [(["a", "b"], "a, b"), ([], "none")])
def test_the_message_says_what_is_in_place(finished, words):
    assert interruption_message(Interrupted(signal.SIGTERM), finished) == (
        f"interrupted by SIGTERM; finished targets: {words}; every file written is complete"
    )


# Says when it is in the phase and waits there. In relaxation it does not wait: what is to be interrupted is
# OpenMM, half a second after it begins to minimise.
WAITS = """
import os, threading, time
from openfoldpp.plugins.hookspecs import hookimpl

phase, _, tag = os.environ["WAIT_IN"].partition(" ")

@hookimpl
def openfoldpp_progress(event):
    if event.phase == phase and (not tag or event.target.tag == tag):
        if phase == "relax":
            import openmm.app

            minimize = openmm.app.Simulation.minimizeEnergy

            def heard(*args, **kwargs):
                threading.Timer(0.5, print, ["waiting"], {"flush": True}).start()
                return minimize(*args, **kwargs)

            openmm.app.Simulation.minimizeEnergy = heard
        else:
            print("waiting", flush=True)
            time.sleep(120)
"""


@pytest.fixture(scope="module")
def waits(plugin_folder):
    return plugin_folder("waits", WAITS)


@pytest.fixture
def interrupted(tmp_path, waits):
    """Run the command on the targets a and b, send a signal in a phase; returns code, stderr, the folder."""

    def run(where, name, *arguments):
        fasta, out = tmp_path / "fasta", tmp_path / "out"
        fasta.mkdir()
        for tag in "ab":
            (fasta / f"{tag}.fasta").write_text(f">{tag}\n{VH}:{VL}\n")
        program = Path(sys.executable).parent / "run_pretrained_openfold.py"
        path = os.pathsep.join(filter(None, [str(waits), os.environ.get("PYTHONPATH")]))
        process = subprocess.Popen(
            [program, fasta, "--plugins", "openfoldpp,waits", "--output_dir", out, "--quiet", *arguments],
            env=os.environ | {"PYTHONPATH": path, "WAIT_IN": where},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout.readline() == "waiting\n", process.stderr.read()
            start = time.perf_counter()
            process.send_signal(getattr(signal, name))
            _, err = process.communicate(timeout=100)
        finally:
            process.kill()
        assert time.perf_counter() - start < 30
        return process.returncode, err, out

    return run


def assert_complete(out, expected):
    """Only whole files of the expected names, and valid timings."""
    found = [path for path in out.rglob("*") if path.is_file()]
    assert not list(out.rglob(".*"))
    assert sorted(path.name for path in found) == sorted(expected)
    for path in found:
        if path.suffix == ".json":
            json.loads(path.read_text())


WHOLE = ("unrelaxed.pdb", "output_dict.pkl", "protein.pkl", "provenance.json")
OF_A = [*(f"a_model_1_ptm_{suffix}" for suffix in WHOLE), "timings.json"]


@pytest.mark.parametrize(
    ("where", "name", "code", "finished", "expected"),
    [
        ("load", "SIGTERM", 143, "none", []),
        ("features b", "SIGINT", 130, "a", OF_A),
        ("predict b", "SIGTERM", 143, "a", OF_A),
        ("write b", "SIGHUP", 129, "a", OF_A),
    ],
)
def test_in_every_phase_finished_targets_stay_and_no_other_file(
    where, name, code, finished, expected, interrupted
):
    returned, err, out = interrupted(where, name, "--skip_relaxation")
    assert returned == code
    assert f"interrupted by {name}; finished targets: {finished}; " in err
    assert "Traceback" not in err
    assert_complete(out, expected)


@pytest.mark.slow
def test_relaxation_is_interrupted_while_openmm_works(interrupted):
    returned, err, out = interrupted("relax a", "SIGTERM")
    assert returned == 143
    assert "finished targets: none" in err
    assert "Traceback" not in err
    assert_complete(out, OF_A)


def test_an_interrupt_while_a_file_is_written_leaves_none(tmp_path, capsys, monkeypatch):
    def interrupted(value, file, protocol):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(files.pickle, "dump", interrupted)
    code = driver.main(
        [f"{VH}:{VL}", "--output_dir", str(tmp_path), "--quiet"], program="openfoldpp predict", targets=True
    )
    assert code == 130
    assert "finished targets: none" in capsys.readouterr().err
    names = ["prediction_model_1_ptm_unrelaxed.pdb", "timings.json"]
    assert_complete(tmp_path, names if (tmp_path / "timings.json").exists() else names[:1])
