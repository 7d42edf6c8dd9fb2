"""Every mistake, as a user makes it: a clear error, an exit code, nothing half-written, no harm to others.

A case puts files into a folder and runs the command on it. Of a mistake in one target a good one beside it,
an antibody Fv, has to be predicted all the same.
"""

import contextlib
import importlib.util
import io
import json
import os
import pickle
import resource
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from openfoldpp.inference import driver


def beside(name):
    """Import a module of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bad_fasta, bad_weights = beside("bad_fasta"), beside("bad_weights")
VH, VL, FV = bad_fasta.VH, bad_fasta.VL, bad_fasta.FV


@dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes
    ----------
    name : str
        What it is.
    said : tuple of str
        Words that are printed: the thing, its value, the cure. ``DIR`` is the case's folder.
    files : dict of str to (str, bytes or callable)
        What lies in the case's folder; a callable writes to the path that it is given.
    arguments : tuple of str
        Beside the folder of FASTA files.
    one_target : bool
        Whether the mistake is about one target; then a good one lies beside it.
    limit : int or None
        Of the size of a file, in bytes.
    root_may : bool
        Whether the administrator may do it.
    """

    name: str
    said: tuple[str, ...]
    files: dict = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    one_target: bool = True
    limit: int | None = None
    root_may: bool = False

    def __str__(self):
        return self.name


def fasta(name, text, *said):
    """Return the case of one FASTA file that cannot be predicted."""
    return Case(name, said, {"fasta/bad.fasta": text})


# One chain, which every preset for monomers takes.
CHAIN = ">good\nMQIFVKTLTG\n"
PTM = ("--config_preset", "model_1_ptm")
WEIGHTS = ("--openfold_checkpoint_path", "DIR/weights.pt", *PTM)
JAX = ("--jax_param_path", "DIR/params_model_1_ptm.npz", *PTM)


def weights(name, content, *said, arguments=WEIGHTS):
    """Return the case of a weights file that cannot be used; without weights no target can be predicted."""
    path = arguments[1].removeprefix("DIR/")
    return Case(
        name, (f"DIR/{path}", *said), {path: content, "fasta/good.fasta": CHAIN}, arguments, one_target=False
    )


PLUGIN = "from openfoldpp.plugins.hookspecs import hookimpl\n\n@hookimpl\n"
RAISES = PLUGIN + (
    "def openfoldpp_make_features(target, options):\n"
    "    if target.tag == 'bad':\n        return {}['missing']\n"
)
SHRINK = PLUGIN + (
    "def openfoldpp_configure(config, options):\n"
    f"    config.update_from_flattened_dict({bad_weights.SMALL!r})\n"
)
WRONG_SIGNATURE = PLUGIN + "def openfoldpp_make_features(target, settings):\n    return None\n"


def plugin(name, source):
    """Return the files of an installed plugin."""
    return {
        f"plugins/{name}.py": source,
        f"plugins/{name}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"plugins/{name}-1.0.dist-info/entry_points.txt": f"[openfoldpp.plugins]\n{name} = {name}\n",
    }


CASES = [
    *(fasta(*row) for row in bad_fasta.ROWS),
    Case(
        "two targets of one name",
        ("DIR/fasta/bad.fasta: its target has the name 'twin'", "DIR/fasta/a.fasta", "change a '>' line"),
        {"fasta/a.fasta": f">twin\n{FV}\n", "fasta/bad.fasta": f">twin x\n{FV}\n"},
    ),
    Case(
        "20,000 residues",
        ("target 'a': its only chain, 'a', has no antibody variable domain", bad_fasta.NOT_AN_FV),
        {"fasta/bad.fasta": f">a\n{'ACDEFGHIKL' * 2000}\n"},
    ),
    Case(
        "20,000 residues with weights",
        ("target 'bad' with 20,000 residues needs about", "GiB of memory on cpu", "enough for about"),
        {
            "weights.pt": bad_weights.small_model,
            "fasta/bad.fasta": f">bad\n{'ACDEFGHIKL' * 2000}\n",
            "fasta/good.fasta": CHAIN,
            **plugin("tiny", SHRINK),
        },
        (*WEIGHTS, "--plugins", "tiny"),
    ),
    *(weights(*row) for row in bad_weights.CHECKPOINTS),
    *(weights(*row, arguments=JAX) for row in bad_weights.JAX_PARAMETERS),
    weights(
        "JAX: of another name",
        bad_weights.arrays,
        "expected params_PRESET.npz, such as params_model_1_ptm.npz",
        arguments=("--jax_param_path", "DIR/weights.npz", *PTM),
    ),
    *(
        Case(
            f"a checkpoint of {trained} for {preset}",
            ("DIR/weights.pt is not a checkpoint of preset", *said, f"give --config_preset {trained}."),
            {
                "weights.pt": bad_weights.parameters(trained),
                "fasta/good.fasta": CHAIN,
                **plugin("tiny", SHRINK),
            },
            (*WEIGHTS, "--config_preset", preset, "--plugins", "tiny"),
            one_target=False,
        )
        for trained, preset, said in (
            ("model_1_ptm", "model_1", ("1 unknown (first: aux_heads.tm.linear.weight)",)),
            ("model_1", "model_1_ptm", ("parameters missing",)),
            ("model_3_ptm", "model_1_ptm", ("parameters of model_3_ptm, model_4_ptm or model_5_ptm",)),
        )
    ),
    Case(
        "weights that are not there",
        ("no checkpoint at DIR/none.pt: --openfold_checkpoint_path expects a .pt file",),
        arguments=("--openfold_checkpoint_path", "DIR/none.pt"),
        one_target=False,
    ),
    # The plugins
    Case(
        "a plugin that is not there",
        ("'openfolds'", "installed"),
        arguments=("--plugins", "openfolds"),
        one_target=False,
    ),
    Case(
        "a hook that raises",
        ("plugin 'raises', hook openfoldpp_make_features, target 'bad': KeyError: 'missing'",),
        {**plugin("raises", RAISES), "fasta/bad.fasta": f">bad\n{FV}\n"},
        ("--plugins", "openfoldpp,raises"),
    ),
    Case(
        "a hook of a wrong signature",
        ("'wrong'", "openfoldpp_make_features", "settings"),
        plugin("wrong", WRONG_SIGNATURE),
        ("--plugins", "openfoldpp,wrong"),
        one_target=False,
    ),
    # The folders and flags
    Case(
        "an output folder that is a file",
        ("--output_dir DIR/file: DIR/file cannot be written to (File exists): give another folder",),
        {"file": ""},
        ("--output_dir", "DIR/file"),
        one_target=False,
    ),
    Case(
        "predictions that is a file",
        ("--output_dir DIR/out: DIR/out/predictions cannot be written to (Not a directory)",),
        {"out/predictions": ""},
        one_target=False,
    ),
    Case(
        "an output folder of others",
        ("--output_dir DIR/locked: DIR/locked cannot be written to (Permission denied)",),
        {"locked": lambda path: path.mkdir(mode=0o500)},
        ("--output_dir", "DIR/locked"),
        one_target=False,
        root_may=True,
    ),
    Case(
        "an output folder that cannot be",
        ("--output_dir /proc/none: /proc/none cannot be written to (No such file",),
        arguments=("--output_dir", "/proc/none"),
        one_target=False,
    ),
    *(
        Case(
            f"no folder for {flag.strip('-')}",
            (f"{flag.strip('-')} DIR/none: there is no such folder; correct it, or leave it out",),
            arguments=arguments,
            one_target=False,
        )
        for flag, arguments in (
            ("--use_precomputed_alignments", ("--use_precomputed_alignments", "DIR/none")),
            ("template_mmcif_dir", ("DIR/none",)),
        )
    ),
    Case(
        "a folder without FASTA files",
        (
            "the folder DIR/fasta has no FASTA file: expected names ending in .fasta or .fa",
            "a.faa passed over",
        ),
        {"fasta/good.fasta": None, "fasta/a.faa": f">a\n{FV}\n"},
        one_target=False,
    ),
    Case(
        "a preset that is not there",
        ("--config_preset model_9: this OpenFold has no such preset", "model_1"),
        {"weights.pt": bad_weights.saved()},
        (*WEIGHTS, "--config_preset", "model_9"),
        one_target=False,
    ),
    Case(
        "a postfix that is a path",
        ("--output_postfix 'a/b' cannot be part of a file's name: use letters",),
        arguments=("--output_postfix", "a/b"),
        one_target=False,
    ),
    Case(
        "a disk that is full",
        ("good_model_1_ptm_output_dict.pkl: File too large; it needs ", "give another --output_dir"),
        limit=400_000,
        one_target=False,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_mistake_is_a_clear_error_and_harms_nothing_else(case, tmp_path, capsys, monkeypatch):
    if case.root_may and os.geteuid() == 0:
        pytest.skip("root may do it")
    put({"fasta/good.fasta": f">good\n{FV}\n", **case.files}, tmp_path)
    if (tmp_path / "plugins").is_dir():
        monkeypatch.syspath_prepend(tmp_path / "plugins")
    arguments = [argument.replace("DIR", str(tmp_path)) for argument in case.arguments]
    if "--output_dir" not in arguments:
        arguments += ["--output_dir", str(tmp_path / "out")]
    if "--plugins" not in arguments:
        arguments += ["--plugins", "openfoldpp"]
    with largest_file(case.limit):
        code = driver.main(
            [str(tmp_path / "fasta"), *arguments, "--skip_relaxation", "--quiet"],
            program="run_pretrained_openfold.py",
        )
    printed = "".join(capsys.readouterr())
    assert code == 1, printed
    assert "Traceback" not in printed
    said = " ".join(printed.split())
    for words in case.said:
        assert words.replace("DIR", str(tmp_path)) in said
    written = nothing_half_written(tmp_path / "out")
    tags = {name.partition("_model_1_ptm_")[0] for name in written}
    if case.one_target:
        good = {"good", "twin"} if case.name == "two targets of one name" else {"good"}
        assert tags - {"timings.json"} == good
        assert f"1 of {len(good) + 1} targets failed" in said
    elif case.limit is None:
        assert written == {"predictions"} & {path.name for path in (tmp_path / "out").glob("*")}
    assert not hasattr(sys, "payload_has_run")


def put(files, folder):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        elif content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


@contextlib.contextmanager
def largest_file(limit):
    """Let no file grow beyond some bytes, as on a full disk; Python ignores the signal that comes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (before[0] if limit is None else limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def nothing_half_written(folder):
    """Assert that no temporary file is left and that each file can be read; returns the files' names."""
    if not folder.is_dir():
        return set()
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in folder.rglob("*") if path.name.startswith((".", "tmp"))]
    for path in paths:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".pkl":
            assert path.read_bytes().endswith(pickle.STOP)
        elif path.suffix == ".pdb":
            assert path.read_text().rstrip().endswith("END")
    return {path.name for path in paths}


@pytest.mark.parametrize(
    "text",
    [f">a\n{FV.lower()}\n", f">a\n{VH}*\n>b\n{VL}*\n", f"\ufeff>a\r\n{VH}\r\n:{VL}\r\n\r\n>\r\n"],
    ids=["lower case", "stop codons", "Windows"],
)
def test_what_is_no_mistake_is_predicted(text, tmp_path):
    put({"fasta/a.fasta": text}, tmp_path)
    arguments = [str(tmp_path / "fasta"), "--plugins", "openfoldpp", "--output_dir", str(tmp_path / "out")]
    code = driver.main([*arguments, "--skip_relaxation", "--quiet"], program="run_pretrained_openfold.py")
    assert code == 0
    (file,) = (tmp_path / "out" / "predictions").glob("*.pdb")
    assert sum(" CA " in line for line in io.StringIO(file.read_text())) == len(VH + VL)


def test_letters_that_openfold_predicts_as_unknown_are_said_once(tmp_path, capsys, monkeypatch):
    files = {
        "fasta/a.fasta": ">a\nMQXFVKTLTG\n",
        "weights.pt": bad_weights.small_model,
        **plugin("tiny", SHRINK),
    }
    put(files, tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "plugins")
    arguments = ["--openfold_checkpoint_path", str(tmp_path / "weights.pt"), *PTM, "--plugins", "tiny"]
    arguments += ["--output_dir", str(tmp_path / "out"), "--skip_relaxation"]
    code = driver.main([str(tmp_path / "fasta"), *arguments], program="run_pretrained_openfold.py")
    assert code == 0
    note = (
        "target 'a' has letters of no one amino acid (X at residue 3 of a): OpenFold predicts them as unknown"
    )
    assert capsys.readouterr().err.count(note) == 1
    (file,) = (tmp_path / "out" / "predictions").glob("*.pdb")
    residues = {int(line[22:26]) for line in io.StringIO(file.read_text()) if line.startswith("ATOM")}
    assert residues == {1, 2, 4, 5, 6, 7, 8, 9, 10}


def mounted(folder):
    """Mount a file system of 2 MB, where this machine lets us; returns whether it does."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    return not subprocess.run(mount, capture_output=True, check=False).returncode


def test_a_disk_that_is_really_full_names_the_file_and_the_space(tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    if not Path("/proc/mounts").exists() or not mounted(out):
        pytest.skip("this machine lets us mount no file system; the row 'a disk that is full' does without")
    try:
        (out / "filler").write_bytes(bytes(1_500_000))
        code = driver.main(
            [FV, FV, "--output_dir", str(out), "--quiet"], program="openfoldpp predict", targets=True
        )
        printed = "".join(capsys.readouterr())
        assert code == 1
        assert "No space left on device; it needs " in printed
        assert "Traceback" not in printed
        nothing_half_written(out)
    finally:
        subprocess.run(["umount", str(out)], check=True)
