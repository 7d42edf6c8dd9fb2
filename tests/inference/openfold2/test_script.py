"""The host's part around upstream's script: plugins, failures, flags, seams, the Python API."""

import argparse
import gc
import importlib
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import openfoldpp
from openfoldpp.files import read_pickle
from openfoldpp.inference import options
from openfoldpp.upstream import script_seams, seams

pytestmark = pytest.mark.upstream

SKIP = "--skip_relaxation"
SEAMS = [value for value in vars(script_seams).values() if isinstance(value, seams.Seam)]


@pytest.mark.parametrize("preset", ["model_1_ptm", "model_1_multimer_v3"])
def test_neither_alignments_nor_templates_are_needed(preset, vanilla, run, inputs, weights):
    target = inputs.dimer if "multimer" in preset else inputs.monomer
    flag = "--jax_param_path" if "multimer" in preset else "--openfold_checkpoint_path"
    code, out = run(target, flag, weights(preset), "--config_preset", preset, SKIP)
    assert code == 0
    assert len(list((out / "predictions").glob("*_unrelaxed.pdb"))) == 1
    assert not list(out.glob("alignments"))


def test_a_target_that_fails_harms_neither_the_next_nor_the_model(
    vanilla, run, arguments, plugin_folder, monkeypatch, assert_same_files
):
    """The first, shorter one fails inside the model; its neighbour gets vanilla's numbers."""
    source = """
from openfoldpp.plugins.hookspecs import hookimpl

@hookimpl
def openfoldpp_predict(model, batch, target):
    if target.tag == "light":
        del batch["msa_feat"]
"""
    monkeypatch.syspath_prepend(plugin_folder("breaks", source))
    code, out = run(*arguments("pair", "model_1_ptm", SKIP), plugins="shrink2,breaks")
    assert code == 1
    assert_same_files(out, vanilla["monomer"])
    assert not [file for file in out.rglob("*") if "light" in file.name]
    assert not list(out.glob(".openfoldpp-*"))


def _attributes():
    """Every attribute of upstream's modules and of their classes, by identity."""
    gc.collect()
    found = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "openfold":
            continue
        owners = [(name, module)] + [
            (f"{name}.{key}", value)
            for key, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__
        ]
        for owner, value in owners:
            found |= {(owner, key): id(member) for key, member in vars(value).items()}
    return {key: value for key, value in found.items() if not key[1].startswith("__")}


def test_seams_are_gone_after_a_run_and_after_a_failure(vanilla, run, arguments):
    for seam in SEAMS:
        importlib.import_module(seam.target.partition(":")[0])
    before = _attributes()
    for target, code in (("monomer", 0), ("dimer", 1)):
        assert run(*arguments(target, "model_1_ptm", SKIP), folder=target)[0] == code
        after = _attributes()
        assert {key: after.get(key) for key in before} == before


def test_each_seam_fits_this_release(version):
    assert len(SEAMS) == 11
    for seam in SEAMS:
        module, _, path = seam.target.partition(":")
        target = importlib.import_module(module)
        for name in path.split("."):
            target = getattr(target, name)
        assert seams.fingerprint(target) == seam.expected[version], seam.name


def test_features_of_a_plugin_take_the_place_of_alignments(
    vanilla, run, inputs, weights, plugin_folder, monkeypatch, seed, assert_same_files
):
    """Upstream's own features for the same sequence, by way of a plugin: the same numbers."""
    source = f"""
from openfoldpp.plugins.hookspecs import hookimpl

@hookimpl
def openfoldpp_make_features(target, options):
    from openfold.data import data_pipeline
    pipeline = data_pipeline.DataPipeline(template_featurizer=None)
    return pipeline.process_fasta(str(target.source), {str(inputs.alignments / "query")!r})

@hookimpl
def openfoldpp_write_outputs(output, target, paths):
    paths.file("note.txt").write_text(output.source)
"""
    monkeypatch.syspath_prepend(plugin_folder("maker", source))
    code, out = run(
        inputs.monomer, "--openfold_checkpoint_path", weights("model_1_ptm"),
        "--config_preset", "model_1_ptm", "--data_random_seed", seed, "--save_outputs", SKIP,
        plugins="shrink2,maker",
    )  # fmt: skip
    assert code == 0
    assert_same_files(out, vanilla["monomer"])
    assert "model_1_ptm" in (out / "predictions" / "query_model_1_ptm_note.txt").read_text()


PEPTIDE = Path(__file__).parents[2] / "upstream" / "data" / "peptide.pdb"
PREDICTS = f"""
from pathlib import Path

from openfoldpp import CoordAdapter
from openfoldpp.plugins.hookspecs import hookimpl

@hookimpl
def openfoldpp_predict(model, batch, target):
    from openfold.np import protein
    from openfoldpp.upstream import schema

    if "L" not in target.tag:
        return None
    peptide = protein.from_pdb_string(Path({str(PEPTIDE)!r}).read_text())
    mask = peptide.atom_mask.copy()
    if target.tag == "Lacking":
        mask[3, 2] = 0
    adapter = CoordAdapter("model_1_ptm", version=schema.output_version())
    return adapter.output(peptide.atom_positions, target.sequence, mask=mask, plddt=mask[:, 1] * 80)
"""


@pytest.fixture
def relaxed(vanilla, run, weights, tmp_path, plugin_folder, monkeypatch, template_sequence):
    """One structure that can be relaxed and one that lacks an atom, both predicted by a plugin."""
    folder = tmp_path / "fasta"
    folder.mkdir()
    for tag in ("Lacking", "Liked"):
        (folder / f"{tag}.fasta").write_text(f">{tag}\n{template_sequence}\n")
    monkeypatch.syspath_prepend(plugin_folder("predicts", PREDICTS))
    return lambda *more: run(
        folder, "--openfold_checkpoint_path", weights("model_1_ptm"), "--config_preset", "model_1_ptm",
        "--save_outputs", *more, plugins="shrink2,predicts",
    )  # fmt: skip


@pytest.mark.parametrize("suffix", ["pdb", "cif"])
def test_the_script_relaxes_and_a_structure_that_cannot_be_is_written_all_the_same(suffix, relaxed, capsys):
    import gemmi

    code, out = relaxed(*(["--cif_output"] if suffix == "cif" else []))
    assert code == 1
    said = capsys.readouterr().out
    assert "Lacking: relaxation failed (every heavy atom is needed, and 1 are missing" in said
    names = {path.name for path in (out / "predictions").iterdir()}
    kinds = {f"unrelaxed.{suffix}", "output_dict.pkl", "protein.pkl", "provenance.json"}
    assert names == {
        "timings.json",
        *(f"Lacking_model_1_ptm_{kind}" for kind in kinds),
        *(f"Liked_model_1_ptm_{kind}" for kind in kinds | {f"relaxed.{suffix}"}),
    }
    assert json.loads((out / "predictions" / "timings.json").read_text())["relaxation"] > 0
    before, after = (
        gemmi.read_structure(str(out / "predictions" / f"Liked_model_1_ptm_{kind}.{suffix}"))[0]
        for kind in ("unrelaxed", "relaxed")
    )
    moved = [
        atom.pos.dist(after[0][number][atom.name][0].pos)
        for number, residue in enumerate(before[0])
        for atom in residue
    ]
    assert 0.001 < np.sqrt(np.mean(np.square(moved))) < 0.5


def test_protein_and_provenance_are_written_beside_upstreams_files(vanilla, run, arguments, inputs):
    code, out = run(*arguments("homotrimer", "model_1_multimer_v3", SKIP))
    assert code == 0
    name = out / "predictions" / "a-b-c_model_1_multimer_v3"
    pickled = read_pickle(Path(f"{name}_protein.pkl"), allow=("openfold.np.protein.Protein",))
    assert len(pickled["protein"].aatype) == sum(map(len, inputs.sequences["homotrimer"].values()))
    provenance = json.loads(Path(f"{name}_provenance.json").read_text())
    # Upstream puts equal chains next to each other.
    assert [chain["tag"] for chain in provenance["chains"]] == ["a", "c", "b"]
    assert [chain["id"] for chain in provenance["chains"]] == ["A", "B", "C"]


def test_several_chains_need_a_multimer_preset(vanilla, run, arguments, capsys):
    code, out = run(*arguments("dimer", "model_1_ptm", SKIP))
    assert code == 1
    printed = capsys.readouterr().out
    assert "heavy-light" in printed
    assert "model_1_multimer_v3" in printed
    assert not list(out.rglob("*.p*"))


def test_two_records_of_one_name_are_two_chains(vanilla, run, inputs, weights, tmp_path):
    """By upstream's rule ``1ABC|H`` and ``1ABC|L`` are both called 1ABC."""
    folder = tmp_path / "fasta"
    folder.mkdir()
    records = zip(("1ABC|H", "1ABC|L"), inputs.sequences["dimer"].values(), strict=True)
    (folder / "a.fasta").write_text("".join(f">{tag}\n{sequence}\n" for tag, sequence in records))
    preset = "model_1_multimer_v3"
    code, out = run(folder, "--jax_param_path", weights(preset), "--config_preset", preset, SKIP)
    assert code == 0
    assert (out / "predictions" / f"1ABC_H-1ABC_L_{preset}_unrelaxed.pdb").is_file()


def test_soloseq_without_an_embedding_says_how_to_make_one(vanilla, run, inputs, weights, capsys):
    preset = "seq_model_esm1b_ptm"
    code, _ = run(
        inputs.monomer, "--openfold_checkpoint_path", weights(preset), "--config_preset", preset, SKIP
    )
    assert code == 1
    assert "scripts/precompute_embeddings.py" in capsys.readouterr().out


@pytest.mark.parametrize("preset", ["seq_model_esm1b_pmt", "model_1_pmt"])
def test_a_preset_that_there_is_not_is_refused(preset, vanilla, run, inputs, weights, capsys):
    code, _ = run(
        inputs.monomer, "--openfold_checkpoint_path", weights("model_1_ptm"), "--config_preset", preset, SKIP
    )
    assert code == 1
    assert f"--config_preset {preset}: this OpenFold has no such preset" in capsys.readouterr().err


def test_a_search_without_its_databases_is_refused(vanilla, run, inputs, weights, tmp_path, capsys):
    (tmp_path / "uniref90.fasta").write_text(">a\nGGG\n")
    code, _ = run(
        inputs.monomer, "--openfold_checkpoint_path", weights("model_1_ptm"),
        "--config_preset", "model_1_ptm", SKIP, "--uniref90_database_path", tmp_path / "uniref90.fasta",
    )  # fmt: skip
    assert code == 1
    assert "--pdb70_database_path" in capsys.readouterr().out


def test_weights_of_another_preset_end_the_run_once(vanilla, run, arguments, weights, capsys):
    code, out = run(*arguments("pair", "model_1", SKIP, weights_file=weights("model_1_ptm")))
    assert code == 1
    error = capsys.readouterr().err
    assert error.count("model_1_ptm.pt") == 1
    assert "--config_preset model_1_ptm" in error
    assert not list(out.rglob("*.pdb"))


def test_flags_and_defaults_are_those_of_upstreams_script(home, version, monkeypatch):
    """Every flag of the script is known, and one left out has the effect that it has there."""

    class StoppedError(Exception):
        pass

    parsers = []

    def stop(parser, *args):
        parsers.append(parser)
        raise StoppedError

    precision = torch.get_float32_matmul_precision()
    # What the script sets for the whole process ends with the test.
    with torch.enable_grad(), monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        with pytest.raises(StoppedError):
            runpy.run_path(str(home / "run_pretrained_openfold.py"), run_name="__main__")
    torch.set_float32_matmul_precision(precision)
    upstreams = {action.dest: action for action in parsers[0]._actions if action.dest != "help"}
    ours, _ = options.parse(["fasta"], program="test")
    assert set(upstreams) <= set(vars(ours))
    for name, action in upstreams.items():
        mine = getattr(ours, name)
        if name in ("fasta_dir", "output_dir", "config_preset", "experiment_config_json", "save_outputs"):
            continue  # given to every execution, or set by the host
        if name.endswith("_binary_path"):
            assert Path(mine).name == Path(action.default).name
        else:
            assert mine == action.default, name
    assert upstreams["config_preset"].default == options.SCRIPT_PRESET


@pytest.mark.parametrize("since", ["2.1.0", "2.2.0"])
def test_a_flag_that_this_release_lacks_is_refused(since, version, vanilla, run, arguments, capsys):
    flag = {"2.1.0": "--use_deepspeed_evoformer_attention", "2.2.0": "--use_custom_template"}[since]
    if version >= since:
        pytest.skip(f"{version} has {flag}")
    code, _ = run(*arguments("monomer", "model_1_ptm", flag))
    assert code == 1
    assert f"with OpenFold {since} and later" in capsys.readouterr().err


def test_the_python_function_gives_the_scripts_numbers(
    vanilla, run, arguments, inputs, weights, seed, monkeypatch
):
    """The plugin ``shrink2`` is on the import path by the fixture ``run``."""
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    prediction = openfoldpp.predict(
        inputs.monomer / "target.fasta",
        "--openfold_checkpoint_path", str(weights("model_1_ptm")), "--config_preset", "model_1_ptm",
        "--use_precomputed_alignments", str(inputs.alignments), "--template_mmcif_dir", str(inputs.templates),
        plugins="shrink2", seed=seed,
    )  # fmt: skip
    name = "predictions/query_model_1_ptm_output_dict.pkl"
    expected = read_pickle(vanilla["monomer"] / name)
    np.testing.assert_array_equal(prediction.coords, expected["final_atom_positions"])
    assert prediction.ptm == expected["ptm_score"]
    pdb = (vanilla["monomer"] / "predictions/query_model_1_ptm_unrelaxed.pdb").read_text()
    assert prediction.to_pdb() == pdb
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_hits_of_a_template_search_are_left_out_where_no_template_folder_is_given(
    vanilla, run, inputs, weights, seed
):
    """The alignments of ``templated`` name a template; without the folder there is no file of it."""
    code, out = run(
        inputs.templated, "--openfold_checkpoint_path", weights("model_1_ptm"),
        "--use_precomputed_alignments", inputs.alignments, "--config_preset", "model_1_ptm", SKIP,
        "--data_random_seed", seed, "--save_outputs",
    )  # fmt: skip
    assert code == 0
    name = "predictions/templated_model_1_ptm_output_dict.pkl"
    ours, with_template = read_pickle(out / name), read_pickle(vanilla["templated"] / name)
    assert not np.array_equal(ours["plddt"], with_template["plddt"])


def test_a_template_whose_file_is_missing_is_named(vanilla, run, arguments, inputs, tmp_path, capsys):
    given = arguments("templated", "model_1_ptm", SKIP)
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "1abc.cif").touch()
    code, _ = run(given[0], tmp_path / "others", *given[2:])
    assert code == 1
    assert "the alignments name a template whose file" in capsys.readouterr().out


def test_an_installed_release_without_its_script_is_refused(
    vanilla, run, inputs, weights, monkeypatch, capsys
):
    import dataclasses

    from openfoldpp.inference import script as inference
    from openfoldpp.upstream import locate

    without = dataclasses.replace(locate(), script=None)
    monkeypatch.setattr(inference, "locate", lambda home=None: without)
    code, _ = run(inputs.monomer, "--openfold_checkpoint_path", weights("model_1_ptm"), SKIP)
    assert code == 1
    assert "give a clone of this release with --openfold_home" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_one_line(vanilla, run, arguments, capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    code, _ = run(*arguments("monomer", "model_1_ptm", SKIP, "--model_device", "cuda"))
    said = capsys.readouterr()
    assert code == 1
    assert "--model_device cuda" in said.err
    assert "Traceback" not in said.err


def test_a_failed_trace_leaves_the_model_whole():
    """Upstream cuts every stack to one block before its dry run."""
    from openfoldpp.upstream import script

    class Stack(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(3)])

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.evoformer, self.extra_msa_stack = Stack(), Stack()

    def fails(model, batch):
        model.evoformer.blocks = model.evoformer.blocks[:1]
        model.extra_msa_stack.blocks = model.extra_msa_stack.blocks[:1]
        raise MemoryError

    kept = script.KeptModel(Model())
    hooks = script.Hooks(*[lambda *arguments: None] * 7)
    execution = script._Execution(hooks, kept, "model_1", None)
    before = [id(module) for module in kept.model.modules()]
    with pytest.raises(MemoryError):
        execution.trace(fails, kept.model, {"aatype": torch.zeros(7, 4)})
    assert [id(module) for module in kept.model.modules()] == before
    assert kept.traced is None


def test_a_plugins_own_account_of_its_values_is_kept(relaxed):
    code, out = relaxed(SKIP)
    assert code == 0
    said = json.loads((out / "predictions" / "Liked_model_1_ptm_provenance.json").read_text())
    assert said["predicted_by"] == "coordinates"
    assert said["values"]["predicted_aligned_error"] == "filled: not predicted"


def test_python_functions_take_upstreams_rule_for_names(vanilla, run, weights, tmp_path):
    (tmp_path / "a.fasta").write_text(">sp|P01234|X_HUMAN\nEVQLVESGGGLVQPGG\n")
    given = ("--openfold_checkpoint_path", str(weights("model_1_ptm")), "--config_preset", "model_1_ptm")
    prediction = openfoldpp.predict(tmp_path / "a.fasta", *given, plugins="shrink2")
    assert prediction.target.tag == "sp"
    with pytest.raises(openfoldpp.OpenFoldPPError, match="would call the chain 'my-protein' 'my'"):
        openfoldpp.predict("EVQLVESGGGLVQPGG", *given, plugins="shrink2", tag="my-protein")
