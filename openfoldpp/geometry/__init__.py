"""Protein geometry on numpy arrays: residue tables, atoms, frames, torsions, confidence, superposition."""
