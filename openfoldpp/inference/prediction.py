"""What a prediction is, whoever made it: coordinates, confidence, and the ways to write it down."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openfoldpp.errors import RelaxationError
from openfoldpp.types import Output, Target

if TYPE_CHECKING:
    import numpy as np

    from openfoldpp.inference.staging import Staging
    from openfoldpp.inference.structure import Structure


@dataclass(frozen=True, repr=False)
class Prediction:
    """A predicted structure with its confidence.

    Attributes
    ----------
    target : Target
        What was predicted.
    preset : str
        The configuration preset whose output schema ``output`` has.
    output : Output
        The complete OpenFold output dictionary.
    protein : openfold.np.protein.Protein or None
        Upstream's own object where its model predicted, else None.
    seconds : dict of str to float
        Time of each step.
    staging : Staging or None
        Files that upstream's own script has written for it, where that ran.
    relaxation_error : RelaxationError or None
        Why the script could not relax the structure.
    features_by : str or None
        What made the features, where a plugin did and says so.
    """

    target: Target
    preset: str
    output: Output
    protein: Any
    seconds: dict[str, float]
    staging: Staging | None = None
    relaxation_error: RelaxationError | None = None
    features_by: str | None = None

    def __repr__(self) -> str:
        residues, sure = len(self.target.sequence), float(self.plddt.mean())
        return (
            f"<Prediction of {self.target.tag!r} by {self.output.source}: {residues} residues in "
            f"{len(self.target.chains)} chains, mean pLDDT {sure:.1f}>"
        )

    @property
    def coords(self) -> np.ndarray:
        """Coordinates in angstrom, float32 ``[N_res, 37, 3]``; zero where ``atom_mask`` is zero."""
        return self.output["final_atom_positions"]

    @property
    def atom_mask(self) -> np.ndarray:
        """1 where an atom was predicted, float32 ``[N_res, 37]``."""
        return self.output["final_atom_mask"]

    @property
    def plddt(self) -> np.ndarray:
        """Confidence of each residue, 0 to 100, float32 ``[N_res]``."""
        return self.output["plddt"]

    @property
    def mean_plddt(self) -> float | None:
        """Mean of ``plddt``; None where nobody predicted it."""
        value = self._predicted("plddt")
        return None if value is None else float(value.mean())

    @property
    def pae(self) -> np.ndarray | None:
        """Predicted aligned error in angstrom, float32 ``[N_res, N_res]``; None where nobody predicted it."""
        return self._predicted("predicted_aligned_error")

    @property
    def ptm(self) -> float | None:
        """Predicted TM-score; None where it was not predicted (0.0.1 and 2.x name it differently)."""
        names = [name for name in ("predicted_tm_score", "ptm_score") if name in self.output]
        value = self._predicted(names[0]) if names else None
        return None if value is None else float(value)

    def structure(self, *, subtract_plddt: bool = False) -> Structure:
        """Return the structure as written: pLDDT, or 100 - pLDDT with subtract_plddt, as B-factors."""
        from openfoldpp.inference.structure import Structure

        return Structure.from_output(self.output, self.target, subtract_plddt=subtract_plddt)

    def to_pdb(self, *, subtract_plddt: bool = False) -> str:
        """Return PDB text, upstream's own where its model predicted; subtract_plddt writes 100 - pLDDT."""
        if self.protein is not None:
            from openfoldpp.inference.outputs import upstream_protein
            from openfoldpp.upstream import model

            return model.protein_to_pdb(upstream_protein(self, subtract_plddt=subtract_plddt))
        from openfoldpp.inference.pdb import to_pdb

        return to_pdb(
            self.structure(subtract_plddt=subtract_plddt),
            remarks=(f"predicted by {self.output.source}", f"config_preset={self.preset}"),
        )

    def to_cif(self, *, relaxed: str | None = None, subtract_plddt: bool = False) -> str:
        """Return ModelCIF text, with pLDDT as its quality metric.

        Parameters
        ----------
        relaxed : str, optional
            PDB text of the relaxed structure, whose coordinates are then written.
        subtract_plddt : bool
            Write 100 - pLDDT as B-factors.

        Returns
        -------
        str
            The file's text.
        """
        from openfoldpp.inference.modelcif import to_modelcif
        from openfoldpp.inference.pdb import with_coordinates

        structure = self.structure(subtract_plddt=subtract_plddt)
        software, _, version = self.output.source.partition(" ")
        return to_modelcif(
            structure if relaxed is None else with_coordinates(structure, relaxed),
            name=self.target.tag,
            software=software,
            software_version=version,
            relaxed=relaxed is not None,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data: chains, confidence, and the structure as ModelCIF text."""
        chains = zip(self.output.chain_ids, self.target.chains, strict=True)
        return {
            "target": self.target.tag,
            "predicted_by": self.output.source,
            "chains": [{"id": i, "tag": chain.tag, "sequence": chain.sequence} for i, chain in chains],
            "plddt": self.plddt,
            "pae": self.pae,
            "ptm": self.ptm,
            "modelcif": self.to_cif(),
        }

    def save(self, directory: str | Path) -> list[Path]:
        """Write structure, output dictionary, protein and provenance into a folder.

        Parameters
        ----------
        directory : path-like
            Made where it is absent.

        Returns
        -------
        list of pathlib.Path
            The files written, named ``TAG_PRESET_...`` as upstream names them.
        """
        from openfoldpp.inference.outputs import write_prediction
        from openfoldpp.types import OutputPaths

        paths = OutputPaths(Path(directory), f"{self.target.tag}_{self.preset}")
        return write_prediction(self, paths)

    def _predicted(self, path: str) -> Any:
        if path not in self.output or self.output.provenance.get(path, "").startswith("filled"):
            return None
        return self.output[path]
