"""What a search by OpenFold 2's script needs is asked for before it starts."""

from argparse import ArgumentParser

import pytest

from openfoldpp.errors import InputError
from openfoldpp.upstream.databases import add_data_options, check_databases_of_2, searches_databases


@pytest.fixture
def options(tmp_path):
    """Make options in which each name stands for a database that exists, and every program does."""
    parser = ArgumentParser()
    add_data_options(parser)
    program = tmp_path / "program"
    program.touch(mode=0o755)

    def make(*databases, preset="model_1_ptm", templates="mmcif"):
        made = parser.parse_args([])
        for name in vars(made):
            if name.endswith("_binary_path"):
                setattr(made, name, str(program))
        for name in databases:
            (tmp_path / name).touch()
            setattr(made, f"{name}_database_path", str(tmp_path / name))
        made.config_preset, made.template_mmcif_dir, made.use_precomputed_alignments = preset, templates, None
        return made

    return make


MULTIMER = {"preset": "model_1_multimer_v3"}


@pytest.mark.parametrize(
    ("databases", "given", "differ", "missing"),
    [
        (["uniref90"], {}, False, "not given: --pdb70_database_path"),
        (["pdb70"], {}, False, "not given: --uniref90_database_path"),
        (["uniref90", "pdb70"], {"templates": None}, False, "not given: the folder of mmCIF files"),
        (["uniref90", "pdb70"], MULTIMER, False, "not given: --pdb_seqres_database_path"),
        (["uniref90", "pdb_seqres"], MULTIMER, True, "not given: --uniprot_database_path"),
        (["uniref90", "pdb70", "uniref30"], {}, False, "--uniref30_database_path is searched together"),
    ],
)
def test_what_is_missing_is_named(databases, given, differ, missing, options):
    with pytest.raises(InputError, match=missing):
        check_databases_of_2(options(*databases, **given), differ=differ)


@pytest.mark.parametrize(
    ("databases", "given", "differ"),
    [
        (["uniref90", "pdb70", "bfd", "uniref30", "mgnify"], {}, False),
        (["uniref90", "pdb_seqres"], MULTIMER, False),
        (["uniref90", "pdb_seqres", "uniprot"], MULTIMER, True),
    ],
)
def test_what_is_complete_passes(databases, given, differ, options):
    check_databases_of_2(options(*databases, **given), differ=differ)


def test_a_program_that_is_missing_is_named_with_its_package(options):
    made = options("uniref90", "pdb70")
    made.hhsearch_binary_path = "/nowhere/hhsearch"
    with pytest.raises(InputError, match=r"--hhsearch_binary_path /nowhere/hhsearch: .*apt install hhsuite"):
        check_databases_of_2(made, differ=False)


def test_a_database_that_is_missing_is_named(options, tmp_path):
    made = options("uniref90", "pdb70")
    made.uniref90_database_path = str(tmp_path / "nowhere.fasta")
    with pytest.raises(
        InputError, match=r"--uniref90_database_path .*nowhere.fasta: there is no such database"
    ):
        check_databases_of_2(made, differ=False)


def test_a_search_is_asked_for_by_a_database_and_not_beside_finished_alignments(options):
    assert searches_databases(options("uniprot"))
    assert not searches_databases(options())
    made = options("uniprot")
    made.use_precomputed_alignments = "alignments"
    assert not searches_databases(made)
