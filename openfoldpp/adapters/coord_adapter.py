"""Coordinates from anywhere as a complete OpenFold output.

The keys, dtypes and dimensions come from the schema snapshot of an OpenFold release and preset; this
module only knows how to make each array. The parts agree: upstream's own ``compute_plddt``, ``compute_tm``
and ``compute_predicted_aligned_error`` give our values on our logits, and frames and torsions rebuild the
atoms as far as their local geometry is ideal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from openfoldpp.errors import InputError, SchemaError
from openfoldpp.geometry import atoms, confidence, frames, torsions
from openfoldpp.geometry.coordinates import Coordinates, read_numbers
from openfoldpp.types import Output
from openfoldpp.upstream import schema as schemas

_PREDICTED = "predicted"
_NOT_PREDICTED = "filled: not predicted"
_NO_NETWORK = "filled: zeros, as no network made it"

#: Arrays that say nothing: activations of a network that was not run, and heads whose answer does not
#: follow from coordinates. Zero logits are the even distribution.
_UNKNOWABLE = {
    "msa": _NO_NETWORK,
    "pair": _NO_NETWORK,
    "single": _NO_NETWORK,
    "sm/states": _NO_NETWORK,
    "sm/single": _NO_NETWORK,
    "num_recycles": "filled: 0, as no network was run",
    "masked_msa_logits": "filled: zeros, all residues alike; no sequence profile was predicted",
    "experimentally_resolved_logits": "filled: zeros, probability one half; not predicted",
}

# What a producer returns for each path that it makes: the array and where it comes from.
_Parts = dict[str, tuple[np.ndarray, str]]


class CoordAdapter:
    """Turns coordinates, with or without confidence, into an OpenFold output dictionary.

    Parameters
    ----------
    preset : str, optional
        The configuration preset whose output is imitated. One with ``ptm``, and any multimer's, has aligned
        errors; a multimer's has scores of the interfaces as well.
    version : str, optional
        The OpenFold release whose output is imitated: ``"0.0.1"``, ``"2.0.0"``, ``"2.1.0"`` or ``"2.2.0"``.

    Attributes
    ----------
    schema : openfoldpp.upstream.schema.Schema
        The layout of that output.

    Raises
    ------
    SchemaError
        There is no snapshot of that release and preset.

    Examples
    --------
    >>> import numpy as np
    >>> from openfoldpp.adapters.coord_adapter import CoordAdapter
    >>> ca_trace = np.cumsum(np.full((5, 3), 2.2), axis=0)
    >>> output = CoordAdapter("model_1_ptm").output(ca_trace, "GSGSG", plddt=np.full(5, 80.0))
    >>> output["final_atom_positions"].shape
    (5, 37, 3)
    >>> output.provenance["predicted_aligned_error"]
    'filled: not predicted'
    """

    def __init__(self, preset: str = "model_1_ptm", version: str = schemas.DEFAULT_VERSION):
        self.schema = schemas.load(version, preset)

    def output(
        self,
        coords,
        sequence: str,
        *,
        mask=None,
        plddt=None,
        plddt_logits=None,
        pae=None,
        tm_logits=None,
        residue_index=None,
        chain_ids: Sequence[str] | None = None,
        source: str = "coordinates",
    ) -> Output:
        """Make the output dictionary. Arrays may be numpy or torch.

        Parameters
        ----------
        coords : array
            Angstrom: ``[N_res, 14, 3]`` in atom14 order, ``[N_res, 37, 3]`` in atom37 order, or CA alone as
            ``[N_res, 1, 3]`` or ``[N_res, 3]``. Any atom may be missing (NaN, or mask 0), CA and whole
            residues too, but not all atoms.
        sequence : str
            One-letter codes, ``:`` between chains, X for any other residue.
        mask : array, optional
            ``[N_res, 14]``, ``[N_res, 37]`` or, for CA alone, ``[N_res]``: 1 or True where there is an atom.
        plddt : array, optional
            ``[N_res]``, 0 to 100. Logits express 1 to 99; values outside are clipped to that.
        plddt_logits : array, optional
            ``[N_res, 50]``, instead of ``plddt``, which is then their expectation. Kept as they are.
            With neither, pLDDT is 1, the lowest there is, and marked as not predicted.
        pae : array, optional
            ``[N_res, N_res]``, angstrom, rows are the residues aligned on. Logits express 0.25 to
            31.75; values outside are clipped to that.
        tm_logits : array, optional
            ``[N_res, N_res, 64]``, instead of ``pae``, which is then their expectation. Kept as they are.
            With neither, PAE is 31.75 everywhere, the largest there is, and marked as not predicted.
        residue_index : array of int, optional
            ``[N_res]``, rising within each chain; a jump is a chain break. By default numbered through.
        chain_ids : sequence of str, optional
            Labels of the chains. By default A, B, ...
        source : str, optional
            What predicted the coordinates.

        Returns
        -------
        openfoldpp.types.Output
            Numpy arrays. ``provenance`` has an entry for each path: ``"predicted"`` (what was given, with
            a note after a semicolon where something about it is worth knowing), ``"derived: ..."`` or
            ``"filled: ..."``. Missing atoms are 0 with ``final_atom_mask`` 0. The trajectory of the
            structure module repeats the given structure; ``sm/frames`` is the identity where N, CA or C is
            missing, at CA, or at 0 without CA; an angle that is not known is 0.

        Raises
        ------
        InputError
            The arrays and the sequence do not fit each other, or hold values that cannot be meant.
        SchemaError
            The schema has an array that the adapter cannot make; the message names it.
        """
        given = Coordinates.from_arrays(
            coords, sequence, mask=mask, residue_index=residue_index, chain_ids=chain_ids
        )
        n_res = len(given.residue_type)
        parts = self._structure_parts(given)
        parts |= self._lddt_parts(plddt, plddt_logits, n_res)
        parts |= self._aligned_error_parts(pae, tm_logits, given.chain_index)
        leaves, provenance = {}, {}
        for path, leaf in self.schema.leaves.items():
            leaves[path], provenance[path] = self._leaf(path, leaf, parts, n_res)
        return Output(
            schemas.unflatten(leaves), source=source, chain_ids=given.chain_ids, provenance=provenance
        )

    def _leaf(self, path: str, leaf: schemas.Leaf, parts: _Parts, n_res: int) -> tuple[np.ndarray, str]:
        """Give one array the schema's dtype and dimensions, repeating it along leading ones."""
        sizes = {"N_res": n_res, "N_seq": 1}
        shape = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in leaf.dims)
        if path in parts:
            array, origin = parts[path]
            array = np.asarray(array, leaf.dtype)
            if shape[len(shape) - array.ndim :] != array.shape:
                raise SchemaError(f"{path}: the adapter makes {list(array.shape)}, the schema says {leaf}.")
            if array.shape != shape:
                array = np.broadcast_to(array, shape).copy()
            return array, origin
        if path in _UNKNOWABLE:
            return np.zeros(shape, leaf.dtype), _UNKNOWABLE[path]
        raise SchemaError(
            f"{path}: in the output of OpenFold {self.schema.version} with {self.schema.preset}, but "
            "CoordAdapter has no producer for it."
        )

    def _bins(self, path: str) -> int:
        return self.schema.leaves[path].dims[-1]

    def _structure_parts(self, given: Coordinates) -> _Parts:
        """All that follows from the atoms."""
        xyz, mask, kind = given.atom37, given.mask37, given.residue_type
        bonded = torsions.peptide_bonds(xyz, mask, given.chain_index, given.residue_index)
        angles = torsions.torsion_angles(xyz, mask, kind, bonded)
        backbone = frames.backbone_frames(xyz, mask)
        groups = frames.rigid_group_frames(backbone, angles.sin_cos, kind)
        # Multimers' frames are matrices, all others' a quaternion and an origin.
        as_matrices = self.schema.leaves["final_affine_tensor"].dims[-1] == 4
        affine = _matrices(backbone) if as_matrices else backbone.to_tensor7()
        by_frame = "derived: from N, CA and C (AlphaFold 2 supplement, algorithm 21)"
        by_angle = "derived: torsion angles of the atoms; 0 where one is missing"
        return {
            "final_atom_positions": (xyz, "; ".join([_PREDICTED, *given.notes])),
            "final_atom_mask": (mask, "derived: the atoms that were given"),
            "final_affine_tensor": (affine, by_frame),
            "sm/frames": (affine, f"{by_frame}, the same for all blocks"),
            "sm/sidechain_frames": (
                groups,
                "derived: sm/frames and sm/angles with ideal local geometry (algorithm 24)",
            ),
            "asym_id": (given.chain_index + 1, "derived: chains numbered from 1, in the given order"),
            "sm/unnormalized_angles": (angles.sin_cos, by_angle),
            "sm/angles": (angles.sin_cos, by_angle),
            "sm/positions": (
                atoms.atom37_to_atom14(xyz, mask, kind)[0],
                "derived: the given atoms, the same for all blocks",
            ),
            "distogram_logits": (
                confidence.distogram_logits(
                    *atoms.pseudo_beta(xyz, mask, kind), bins=self._bins("distogram_logits")
                ),
                "derived: CB distances (CA of glycine) with a normal spread of "
                f"{confidence.DISTANCE_DEVIATION} A; even where one is missing",
            ),
        }

    def _lddt_parts(self, plddt, plddt_logits, n_res: int) -> _Parts:
        """Make pLDDT and its logits, either from the other."""
        if plddt is not None and plddt_logits is not None:
            raise InputError("plddt and plddt_logits: both given, expected one. The logits imply the other.")
        bins = self._bins("lddt_logits")
        if plddt_logits is not None:
            logits = _finite("plddt_logits", plddt_logits, (n_res, bins))
            return {
                "lddt_logits": (logits, _PREDICTED),
                "plddt": (confidence.expected_lddt(logits), "derived: expectation of lddt_logits"),
            }
        centers = confidence.plddt_bin_centers(bins)
        if plddt is None:
            values, origin, encoded = np.full(n_res, centers[0]), _NOT_PREDICTED, _NOT_PREDICTED
        else:
            values = _finite("plddt", plddt, (n_res,))
            low, high = values.min(), values.max()
            if low < 0 or high > 100 or 0 < high <= 1:
                raise InputError(
                    f"plddt: values from {low:g} to {high:g}, expected 0 to 100. Multiply fractions by 100."
                )
            values, origin = _clip(values, centers, "")
            encoded = "derived: plddt on the two bins about it"
        return {
            "plddt": (values, origin),
            "lddt_logits": (confidence.encode_in_bins(values, centers), encoded),
        }

    def _aligned_error_parts(self, pae, tm_logits, chain_index: np.ndarray) -> _Parts:
        """Make PAE, its logits and the TM-scores that they imply; nothing for a preset that has none."""
        n_res = len(chain_index)
        if "tm_logits" not in self.schema.leaves:
            if pae is not None or tm_logits is not None:
                name = "pae" if pae is not None else "tm_logits"
                raise InputError(
                    f"{name}: given, but the output of {self.schema.preset} has no aligned errors. "
                    "Choose a preset with ptm, for example model_1_ptm, or leave it out."
                )
            return {}
        if pae is not None and tm_logits is not None:
            raise InputError("pae and tm_logits: both given, expected one. The logits imply the other.")
        bins = self._bins("tm_logits")
        centers = confidence.pae_bin_centers(bins)
        if tm_logits is not None:
            logits, encoded = _finite("tm_logits", tm_logits, (n_res, n_res, bins)), _PREDICTED
            error, probabilities = confidence.expected_pae(logits)
            origin = derived = "derived: from tm_logits"
        else:
            if pae is None:
                error = np.full((n_res, n_res), centers[-1])
                origin = encoded = derived = _NOT_PREDICTED
            else:
                error = _finite("pae", pae, (n_res, n_res))
                if error.min() < 0:
                    raise InputError(
                        f"pae: its least value is {error.min():g}, expected angstrom, not negative."
                    )
                error, origin = _clip(error, centers, " A")
                encoded, derived = "derived: pae on the two bins about it", "derived: from tm_logits"
            logits = confidence.encode_in_bins(error, centers)
            _, probabilities = confidence.expected_pae(logits)
        tm_score = confidence.predicted_tm_score(logits)
        parts = {
            "tm_logits": (logits, encoded),
            # One value under two names: that of 0.0.1 and that of 2.x.
            "predicted_tm_score": (tm_score, derived),
            "ptm_score": (tm_score, derived),
            "aligned_confidence_probs": (probabilities, derived),
            "predicted_aligned_error": (error, origin),
            "max_predicted_aligned_error": (centers[-1], "derived: centre of the last bin of aligned error"),
        }
        if "iptm_score" in self.schema.leaves:
            interface = confidence.interface_tm_score(probabilities, chain_index)
            weighted = confidence.IPTM_WEIGHT * interface + confidence.PTM_WEIGHT * tm_score
            alone = "; 0, as there is one chain" if chain_index[-1] == chain_index[0] else ""
            parts["iptm_score"] = (interface, derived + alone)
            parts["weighted_ptm_score"] = (
                weighted,
                f"{derived}, {confidence.IPTM_WEIGHT} of iptm_score and {confidence.PTM_WEIGHT} of ptm_score",
            )
        return parts


def _matrices(backbone: frames.BackboneFrames) -> np.ndarray:
    """Frames as homogeneous matrices, ``[N_res, 4, 4]``, local to global."""
    matrices = np.tile(np.eye(4), (len(backbone.origins), 1, 1))
    matrices[:, :3, :3] = backbone.rotations
    matrices[:, :3, 3] = backbone.origins
    return matrices


def _finite(name: str, array, shape: tuple[int, ...]) -> np.ndarray:
    """Copy of an array of floats; :class:`InputError` where its shape differs or a value is not finite."""
    values = read_numbers(name, array)
    if values.shape != shape:
        raise InputError(f"{name}: shape {list(values.shape)}, expected {list(shape)} for this sequence.")
    if not np.isfinite(values).all():
        raise InputError(f"{name}: holds NaN or infinity, expected finite numbers.")
    return np.array(values, np.float32 if values.dtype.kind != "f" else values.dtype)


def _clip(values: np.ndarray, centers: np.ndarray, unit: str) -> tuple[np.ndarray, str]:
    """Bring values into the range of the bins' centres; the provenance says how many were outside."""
    clipped = np.clip(values, centers[0], centers[-1])
    outside = int((clipped != values).sum())
    note = f"; {outside} of {values.size} values clipped to {centers[0]:g} to {centers[-1]:g}{unit}"
    return clipped, _PREDICTED + note * bool(outside)
