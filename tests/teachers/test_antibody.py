"""Numbering: what is found, where, and what is not an antibody."""

import json
import sys

import pytest
import torch

from openfoldpp.errors import MissingDependencyError
from openfoldpp.teachers import antibody
from openfoldpp.teachers.antibody import Domain, NotAntibody, classify, variable_domains

# Trastuzumab (PDB 1N8Z) and the lambda chain of avelumab (5GRJ), with human IgG1 CH1 and C kappa.
VH = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYC"
    "SRWGGDGFYAMDYWGQGTLVTVSS"
)
VK = (
    "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTDFTLTISSLQPEDFATYYCQQHYTTPPTFG"
    "QGTKVEIK"
)
VLAMBDA = (
    "QSALTQPASVSGSPGQSITISCTGTSSDVGGYNYVSWYQQHPGKAPKLMIYDVSNRPSGVSNRFSGSKSGNTASLTISGLQAEDEADYYCSSYTSSSTRV"
    "FGTGTKVTVL"
)
CH1 = "ASTKGPSVFPLAPSSKSTSGGTAALGCLVKDYFPEPVTVSWNSGALTSGVHTFPAVLQSSGLYSLSSVVTVPSSSLGTQTYICNVNHKPSNTKVDKKV"
CKAPPA = (
    "RTVAAPSVFIFPPSDEQLKSGTASVVCLLNNFYPREAKVQWKVDNALQSGNSQESVTEQDSKDSTYSLSSTLTLSKADYEKHKVYACEVTHQGLSSPVT"
    "KSFNRGEC"
)
SIGNAL = "MGWSCIILFLVATATGVHS"
LINKER = "GGGGS" * 3

ALPHA = (
    "QKVTQAQTEISVVEKEDVTLDCVYETRDTTYYLFWYKQPPSGELVFLIRRNSFDEQNEISGRYSWNFQKSTSSFNFTITASQVVDSAVYFCALSGFYNTDKL"
    "IFGTGTRLQVFP"
)
BETA = (
    "NAGVTQTPKFQVLKTGQSMTLQCAQDMNHEYMSWYRQDPGMGLRLIHYSVGAGITDQGEVPNGYNVSRSTTEDFPLRLLSAAPSQTSVYFCASRPGLAGGRP"
    "EQYFGPGTRLTVTE"
)
BETA2_MICROGLOBULIN = (
    "MIQRTPKIQVYSRHPAENGKSNFLNCYVSGFHPSDIEVDLLKNGERIEKVEHSDLSFSKDWSFYLLYYTEFTPTEKDEYACRVNHVTLSQPKIVKWDRDM"
)
UBIQUITIN = "MQIFVKTLTGKTITLEVEPSDTIENVKAKIQDKEGIPPDQQRLIFAGKQLEDGRTLSDYNIQKESTLHLVLRLRGG"

OTHERS = {
    "alpha": ALPHA,
    "beta": BETA,
    "ubiquitin": UBIQUITIN,
    "beta-2 microglobulin": BETA2_MICROGLOBULIN,  # an immunoglobulin fold, but no variable domain
    "CH1": CH1,
    "poly-alanine": "A" * 120,
    "one residue": "E",
    "empty": "",
    "gapped": VH[:50] + "-" + VH[50:],
    "lower case": VH.lower(),
}


@pytest.fixture(scope="module")
def found():
    """All sequences of this file, classified in one call."""
    sequences = OTHERS | {
        "H": VH,
        "K": VK,
        "L": VLAMBDA,
        "Fab H": VH + CH1,
        "whole K": SIGNAL + VK + CKAPPA,
        "cut": VH[5:-6],
    }
    return dict(zip(sequences, classify(list(sequences.values())), strict=True))


@pytest.mark.parametrize(
    ("name", "sequence", "last", "cdrs"),
    [
        ("H", VH, 128, ("GFNIKDTY", "IYPTNGYT", "SRWGGDGFYAMDY")),
        ("K", VK, 127, ("QDVNTA", "SAS", "QQHYTTPPT")),
        ("L", VLAMBDA, 127, ("SSDVGGYNY", "DVS", "SSYTSSSTRV")),
    ],
)
def test_a_bare_domain_is_numbered_from_end_to_end(found, name, sequence, last, cdrs):
    domain = found[name]
    assert (domain.chain_type, domain.start, domain.end) == (name, 0, len(sequence))
    assert len(domain.imgt) == len(sequence)
    assert domain.imgt_range == (1, last)
    assert tuple(sequence[start:end] for start, end in domain.cdrs) == cdrs
    assert domain.is_heavy == (name == "H")


@pytest.mark.parametrize(
    ("name", "bare", "start"), [("Fab H", "H", 0), ("whole K", "K", len(SIGNAL))], ids=["CH1", "signal, CK"]
)
def test_residues_around_the_domain_are_left_out(found, name, bare, start):
    domain = found[name]
    assert (domain.start, domain.end) == (start, start + found[bare].end)
    assert domain.imgt == found[bare].imgt
    assert domain.cdrs == tuple((a + start, b + start) for a, b in found[bare].cdrs)


def test_a_domain_that_is_cut_off_shows_it(found):
    assert found["cut"].imgt_range == (6, 122)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("alpha", "T-cell receptor alpha chain"),
        ("beta", "T-cell receptor beta chain"),
        ("ubiquitin", "no antibody variable domain"),
        ("beta-2 microglobulin", "no antibody variable domain"),
        ("CH1", "no antibody variable domain"),
        ("poly-alanine", "no antibody variable domain"),
        ("one residue", "no antibody variable domain"),
        ("empty", "not a sequence of capital letters"),
        ("gapped", "not a sequence of capital letters"),
        ("lower case", "not a sequence of capital letters"),
    ],
)
def test_what_is_not_an_antibody_says_why(found, name, reason):
    assert isinstance(found[name], NotAntibody)
    assert reason in found[name].reason


@pytest.mark.parametrize("first_heavy", [True, False])
def test_both_domains_of_an_scfv_are_found(first_heavy):
    first, second = (VH, VK) if first_heavy else (VK, VH)
    scfv = SIGNAL + first + LINKER + second
    domains = variable_domains(scfv)
    assert [scfv[domain.start : domain.end] for domain in domains] == [first, second]
    assert [domain.is_heavy for domain in domains] == [first_heavy, not first_heavy]
    assert scfv[slice(*domains[1].cdrs[2])] == ("QQHYTTPPT" if first_heavy else "SRWGGDGFYAMDY")


def test_numbers_and_cdrs_of_crystal_structures(data_dir):
    chains = [
        chain
        for entry in list(json.loads((data_dir / "fv/chains.json").read_text()).values())[::3]
        for chain in entry["chains"].values()
    ]
    for chain, domain in zip(chains, classify([chain["sequence"] for chain in chains]), strict=True):
        assert domain == Domain(
            chain["type"],
            0,
            len(chain["sequence"]),
            tuple(chain["imgt"]),
            tuple(tuple(chain[cdr]) for cdr in ("cdr1", "cdr2", "cdr3")),
        )


def test_it_is_repeatable_quiet_and_writes_no_file(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert classify([VH, VK]) == classify([VH, VK])
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_torch_keeps_its_number_of_threads():
    antibody._anarcii.cache_clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        classify([VH])
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)


def test_without_anarcii_the_message_has_the_command_that_installs_it(monkeypatch):
    antibody._anarcii.cache_clear()
    monkeypatch.setitem(sys.modules, "anarcii", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'openfoldpp\[fv\]'"):
        classify([VH])
