"""Relaxation with OpenMM, through upstream's ``AmberRelaxation``."""

from __future__ import annotations

from openfoldpp.errors import RelaxationError
from openfoldpp.upstream.model import quiet_upstream


def relax(protein, config, device: str) -> str:
    """Relax a structure with OpenMM through upstream's ``AmberRelaxation``.

    Parameters
    ----------
    protein : openfold.np.protein.Protein
        All heavy atoms of every residue.
    config : ml_collections.ConfigDict
        Its ``relax`` part is used.
    device : str
        A torch device name. OpenMM's CUDA platform is used for ``cuda`` and ``cuda:N``, else its CPU one.

    Returns
    -------
    str
        PDB text with hydrogens; upstream labels its chains A, B, ...

    Raises
    ------
    RelaxationError
        OpenMM could not relax this structure.
    """
    from openfold.np.relax.relax import AmberRelaxation

    require_relaxable(protein, device)
    with quiet_upstream():
        try:
            relaxer = AmberRelaxation(use_gpu=device.startswith("cuda"), **config.relax)
            text, _, _ = relaxer.process(prot=protein)
        except (ValueError, RuntimeError, AssertionError, KeyError) as error:
            raise relaxation_error(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    return text


def require_relaxable(protein, device: str) -> None:
    """Refuse what upstream would find out only after the work, or by an assertion over arrays.

    Parameters
    ----------
    protein : openfold.np.protein.Protein
        What is to be relaxed.
    device : str
        A torch device name.

    Raises
    ------
    RelaxationError
        An atom is missing, or OpenMM cannot use the device.
    """
    if device.startswith("cuda"):
        _require_cuda_platform()
    _require_every_heavy_atom(protein)


def _require_every_heavy_atom(protein) -> None:
    import numpy as np
    from openfold.np import residue_constants

    missing = np.argwhere(residue_constants.STANDARD_ATOM_MASK[protein.aatype] > protein.atom_mask)
    if len(missing):
        residue, atom = missing[0]
        name = residue_constants.restype_1to3[residue_constants.restypes[protein.aatype[residue]]]
        raise relaxation_error(
            f"every heavy atom is needed, and {len(missing)} are missing, the first is "
            f"{residue_constants.atom_types[atom]} of {name} {protein.residue_index[residue]} in chain "
            f"{protein.chain_index[residue] + 1}"
        )


def relaxation_error(reason: str) -> RelaxationError:
    """Return the error that says why (the `reason`), what is there all the same, and how to go on without."""
    return RelaxationError(
        f"relaxation failed ({reason}); the unrelaxed structure is written. --skip_relaxation leaves this "
        "step out."
    )


def _require_cuda_platform() -> None:
    import openmm

    names = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    if "CUDA" not in names:
        raise RelaxationError(
            f"relaxation on a GPU needs OpenMM with its CUDA platform, and this one has {', '.join(names)}; "
            "the unrelaxed structure is written. Install it with `pip install openmm[cuda12]`, or leave this "
            "step out with --skip_relaxation."
        )
