// Atoms, rigid frames and torsion angles of proteins, in double precision.
//
// Every array is dense and row-major. `residue_type` holds 0 to 20 (20 is X) and indexes the tables; the
// tables come from the caller, so this library holds no residue data. An atom whose mask is 0 may hold
// anything, NaN included. Shapes stand behind the arguments; rotations are 3x3, columns are the axes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace openfoldpp::coords {

constexpr int kAtom14 = 14;
constexpr int kAtom37 = 37;
constexpr int kResidueTypes = 21;
constexpr int kGroups = 8;    // backbone, pre-omega, phi, psi, chi1..chi4
constexpr int kTorsions = 7;  // pre-omega, phi, psi, chi1..chi4
constexpr int kChis = 4;

// Borrowed pointers; -1 stands for "none".
struct ResidueTables {
    const std::int32_t* atom37_of_atom14;    // [21, 14]
    const std::int32_t* chi_atoms;           // [21, 4, 4], indices in atom37
    const std::int32_t* rigid_group;         // [21, 14], the group that carries the atom
    const double* literature_positions;      // [21, 14, 3], in the frame of that group
    const double* default_frames;            // [21, 8, 4, 4], each group in its parent's frame at torsion 0
};

// Copies each atom to its place in the other order; places that stay empty get 0 and mask 0.
void atom14_to_atom37(const double* atom14 /*[n,14,3]*/, const std::uint8_t* mask14 /*[n,14]*/,
                      const std::int32_t* residue_type /*[n]*/, std::size_t n, const ResidueTables& tables,
                      double* atom37 /*[n,37,3]*/, std::uint8_t* mask37 /*[n,37]*/);
void atom37_to_atom14(const double* atom37, const std::uint8_t* mask37, const std::int32_t* residue_type,
                      std::size_t n, const ResidueTables& tables, double* atom14, std::uint8_t* mask14);

// AlphaFold 2 supplement, algorithm 21, as applied to the backbone: origin at CA, x towards C, N in the
// xy-plane with positive y. Where N, CA or C is missing or they lie on a line: known = 0, no rotation,
// origin at CA, or 0 without CA.
void backbone_frames(const double* atom37, const std::uint8_t* mask37, std::size_t n,
                     double* rotations /*[n,3,3]*/, double* origins /*[n,3]*/, std::uint8_t* known /*[n]*/);

// Unit quaternions (w, x, y, z) with w >= 0.
void quaternions(const double* rotations /*[n,3,3]*/, std::size_t n, double* out /*[n,4]*/);

// (sin, cos) of pre-omega, phi, psi and chi1..chi4. psi is measured to O, then turned by 180 degrees, which
// is the angle to the next N in a planar peptide. bonded[i] says that residue i follows residue i - 1 in
// the chain; without it pre-omega and phi are unknown. An unknown angle is 0: (0, 1), known = 0.
void torsion_angles(const double* atom37, const std::uint8_t* mask37, const std::int32_t* residue_type,
                    const std::uint8_t* bonded /*[n]*/, std::size_t n, const ResidueTables& tables,
                    double* sin_cos /*[n,7,2]*/, std::uint8_t* known /*[n,7]*/);

// AlphaFold 2 supplement, algorithm 24, lines 1 to 10: the eight rigid groups as 4x4 transforms to global
// coordinates. A group that a residue type does not have keeps upstream's value: zero rotation.
void rigid_group_frames(const double* rotations, const double* origins, const double* sin_cos,
                        const std::int32_t* residue_type, std::size_t n, const ResidueTables& tables,
                        double* frames /*[n,8,4,4]*/);

// Algorithm 24, line 11: literature positions carried by their groups. Empty places are 0 with mask 0.
void rebuild_atom14(const double* frames /*[n,8,4,4]*/, const std::int32_t* residue_type, std::size_t n,
                    const ResidueTables& tables, double* atom14 /*[n,14,3]*/, std::uint8_t* mask14 /*[n,14]*/);

}  // namespace openfoldpp::coords
