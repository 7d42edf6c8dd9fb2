#include "openfoldpp/coords.h"

#include <algorithm>
#include <cmath>

namespace openfoldpp::coords {
namespace {

struct Vec {
    double x, y, z;
};

Vec load(const double* p) { return {p[0], p[1], p[2]}; }
void store(double* p, Vec v) {
    p[0] = v.x;
    p[1] = v.y;
    p[2] = v.z;
}
Vec operator+(Vec a, Vec b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
Vec operator-(Vec a, Vec b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
Vec operator*(double s, Vec a) { return {s * a.x, s * a.y, s * a.z}; }
double dot(Vec a, Vec b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
Vec cross(Vec a, Vec b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }

// Shorter than this (angstrom) no direction can be told: real atoms lie an angstrom apart.
constexpr double kDegenerate = 1e-4;

bool normalise(Vec& v) {
    const double length = std::sqrt(dot(v, v));
    if (!(length > kDegenerate)) return false;
    v = (1.0 / length) * v;
    return true;
}

// Orthonormal axes with x along `along` and `in_plane` in the xy-plane, y > 0 (Gram-Schmidt).
bool axes(Vec along, Vec in_plane, Vec& ex, Vec& ey, Vec& ez) {
    ex = along;
    if (!normalise(ex)) return false;
    ey = in_plane - dot(in_plane, ex) * ex;
    if (!normalise(ey)) return false;
    ez = cross(ex, ey);
    return true;
}

struct Rigid {
    double r[9];
    Vec t;
};

Vec rotate(const double* r, Vec v) {
    return {r[0] * v.x + r[1] * v.y + r[2] * v.z, r[3] * v.x + r[4] * v.y + r[5] * v.z,
            r[6] * v.x + r[7] * v.y + r[8] * v.z};
}

Rigid compose(const Rigid& a, const Rigid& b) {
    Rigid out;
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j)
            out.r[3 * i + j] =
                a.r[3 * i] * b.r[j] + a.r[3 * i + 1] * b.r[3 + j] + a.r[3 * i + 2] * b.r[6 + j];
    out.t = rotate(a.r, b.t) + a.t;
    return out;
}

// The default frame, turned about its own x-axis by the torsion angle.
Rigid turned(const double* frame4x4, double sine, double cosine) {
    Rigid out;
    for (int i = 0; i < 3; ++i) {
        const double* row = frame4x4 + 4 * i;
        out.r[3 * i] = row[0];
        out.r[3 * i + 1] = cosine * row[1] + sine * row[2];
        out.r[3 * i + 2] = cosine * row[2] - sine * row[1];
    }
    out.t = {frame4x4[3], frame4x4[7], frame4x4[11]};
    return out;
}

void store(double* out4x4, const Rigid& rigid) {
    const double t[3] = {rigid.t.x, rigid.t.y, rigid.t.z};
    for (int i = 0; i < 3; ++i) {
        std::copy(rigid.r + 3 * i, rigid.r + 3 * i + 3, out4x4 + 4 * i);
        out4x4[4 * i + 3] = t[i];
        out4x4[12 + i] = 0.0;
    }
    out4x4[15] = 1.0;
}

// Dihedral of four points, positive clockwise looking from b to c (IUPAC). False on a straight line.
bool dihedral(Vec a, Vec b, Vec c, Vec d, double& sine, double& cosine) {
    Vec ex, ey, ez;
    if (!axes(c - b, a - b, ex, ey, ez)) return false;
    const Vec rel = d - c;
    sine = dot(rel, ez);
    cosine = dot(rel, ey);
    const double length = std::hypot(sine, cosine);
    if (!(length > kDegenerate)) return false;
    sine /= length;
    cosine /= length;
    return true;
}

// Places in atom37 order; the only atom names that the algorithms themselves mention.
enum Atom37 { kN = 0, kCA = 1, kC = 2, kO = 4 };

}  // namespace

void atom14_to_atom37(const double* atom14, const std::uint8_t* mask14, const std::int32_t* residue_type,
                      std::size_t n, const ResidueTables& tables, double* atom37, std::uint8_t* mask37) {
    std::fill(atom37, atom37 + n * kAtom37 * 3, 0.0);
    std::fill(mask37, mask37 + n * kAtom37, std::uint8_t{0});
    for (std::size_t i = 0; i < n; ++i)
        for (int a = 0; a < kAtom14; ++a) {
            const std::int32_t to = tables.atom37_of_atom14[residue_type[i] * kAtom14 + a];
            if (to < 0 || !mask14[i * kAtom14 + a]) continue;
            std::copy_n(atom14 + (i * kAtom14 + a) * 3, 3, atom37 + (i * kAtom37 + to) * 3);
            mask37[i * kAtom37 + to] = 1;
        }
}

void atom37_to_atom14(const double* atom37, const std::uint8_t* mask37, const std::int32_t* residue_type,
                      std::size_t n, const ResidueTables& tables, double* atom14, std::uint8_t* mask14) {
    std::fill(atom14, atom14 + n * kAtom14 * 3, 0.0);
    std::fill(mask14, mask14 + n * kAtom14, std::uint8_t{0});
    for (std::size_t i = 0; i < n; ++i)
        for (int a = 0; a < kAtom14; ++a) {
            const std::int32_t from = tables.atom37_of_atom14[residue_type[i] * kAtom14 + a];
            if (from < 0 || !mask37[i * kAtom37 + from]) continue;
            std::copy_n(atom37 + (i * kAtom37 + from) * 3, 3, atom14 + (i * kAtom14 + a) * 3);
            mask14[i * kAtom14 + a] = 1;
        }
}

void backbone_frames(const double* atom37, const std::uint8_t* mask37, std::size_t n, double* rotations,
                     double* origins, std::uint8_t* known) {
    for (std::size_t i = 0; i < n; ++i) {
        const double* xyz = atom37 + i * kAtom37 * 3;
        const std::uint8_t* present = mask37 + i * kAtom37;
        double* r = rotations + 9 * i;
        const Vec ca = present[kCA] ? load(xyz + 3 * kCA) : Vec{0, 0, 0};
        store(origins + 3 * i, ca);
        Vec ex, ey, ez;
        known[i] = present[kN] && present[kCA] && present[kC] &&
                   axes(load(xyz + 3 * kC) - ca, load(xyz + 3 * kN) - ca, ex, ey, ez);
        if (!known[i]) {
            ex = {1, 0, 0};
            ey = {0, 1, 0};
            ez = {0, 0, 1};
        }
        const double columns[9] = {ex.x, ey.x, ez.x, ex.y, ey.y, ez.y, ex.z, ey.z, ez.z};
        std::copy_n(columns, 9, r);
    }
}

void quaternions(const double* rotations, std::size_t n, double* out) {
    for (std::size_t i = 0; i < n; ++i) {
        const double* r = rotations + 9 * i;
        double* q = out + 4 * i;
        // Four times the square of each component; dividing by the largest loses no digits (Shepperd 1978).
        const double squares[4] = {1 + r[0] + r[4] + r[8], 1 + r[0] - r[4] - r[8], 1 - r[0] + r[4] - r[8],
                                   1 - r[0] - r[4] + r[8]};
        const double wx = r[7] - r[5], wy = r[2] - r[6], wz = r[3] - r[1];
        const double xy = r[1] + r[3], xz = r[2] + r[6], yz = r[5] + r[7];
        const double rows[4][4] = {{squares[0], wx, wy, wz},
                                   {wx, squares[1], xy, xz},
                                   {wy, xy, squares[2], yz},
                                   {wz, xz, yz, squares[3]}};
        const auto* row = rows[std::max_element(squares, squares + 4) - squares];
        double length = std::sqrt(row[0] * row[0] + row[1] * row[1] + row[2] * row[2] + row[3] * row[3]);
        if (row[0] < 0) length = -length;
        for (int c = 0; c < 4; ++c) q[c] = row[c] / length;
    }
}

void torsion_angles(const double* atom37, const std::uint8_t* mask37, const std::int32_t* residue_type,
                    const std::uint8_t* bonded, std::size_t n, const ResidueTables& tables, double* sin_cos,
                    std::uint8_t* known) {
    for (std::size_t i = 0; i < n; ++i) {
        const auto atom = [&](std::size_t residue, int a) { return atom37 + (residue * kAtom37 + a) * 3; };
        const auto has = [&](std::size_t residue, int a) { return mask37[residue * kAtom37 + a] != 0; };
        for (int t = 0; t < kTorsions; ++t) {
            std::size_t residues[4] = {i, i, i, i};
            int atoms[4] = {kN, kCA, kC, kO};  // psi
            bool defined = true;
            if (t <= 1) {
                defined = i > 0 && bonded[i];
                residues[0] = i - 1;
                const int pre_omega[4] = {kCA, kC, kN, kCA}, phi[4] = {kC, kN, kCA, kC};
                std::copy_n(t == 0 ? pre_omega : phi, 4, atoms);
                if (t == 0) residues[1] = i - 1;
            } else if (t >= 3) {
                const std::int32_t* chi = tables.chi_atoms + (residue_type[i] * kChis + t - 3) * 4;
                defined = chi[0] >= 0;
                std::copy_n(chi, 4, atoms);
            }
            for (int a = 0; a < 4 && defined; ++a) defined = has(residues[a], atoms[a]);
            double sine = 0, cosine = 1;
            if (defined)
                defined = dihedral(load(atom(residues[0], atoms[0])), load(atom(residues[1], atoms[1])),
                                   load(atom(residues[2], atoms[2])), load(atom(residues[3], atoms[3])), sine,
                                   cosine);
            if (!defined) sine = 0, cosine = 1;
            const double turn = t == 2 && defined ? -1.0 : 1.0;
            sin_cos[(i * kTorsions + t) * 2] = turn * sine;
            sin_cos[(i * kTorsions + t) * 2 + 1] = turn * cosine;
            known[i * kTorsions + t] = defined;
        }
    }
}

void rigid_group_frames(const double* rotations, const double* origins, const double* sin_cos,
                        const std::int32_t* residue_type, std::size_t n, const ResidueTables& tables,
                        double* frames) {
    for (std::size_t i = 0; i < n; ++i) {
        Rigid backbone;
        std::copy_n(rotations + 9 * i, 9, backbone.r);
        backbone.t = load(origins + 3 * i);
        Rigid parent = backbone;
        for (int g = 0; g < kGroups; ++g) {
            const double* angle = sin_cos + (i * kTorsions + std::max(g - 1, 0)) * 2;
            const Rigid local = turned(tables.default_frames + (residue_type[i] * kGroups + g) * 16,
                                       g ? angle[0] : 0.0, g ? angle[1] : 1.0);
            // chi2..chi4 continue the group before them; all others hang on the backbone.
            parent = compose(g > 4 ? parent : backbone, local);
            store(frames + (i * kGroups + g) * 16, parent);
        }
    }
}

void rebuild_atom14(const double* frames, const std::int32_t* residue_type, std::size_t n,
                    const ResidueTables& tables, double* atom14, std::uint8_t* mask14) {
    std::fill(atom14, atom14 + n * kAtom14 * 3, 0.0);
    std::fill(mask14, mask14 + n * kAtom14, std::uint8_t{0});
    for (std::size_t i = 0; i < n; ++i)
        for (int a = 0; a < kAtom14; ++a) {
            const std::size_t entry = residue_type[i] * kAtom14 + a;
            const std::int32_t group = tables.rigid_group[entry];
            if (group < 0) continue;
            const double* frame = frames + (i * kGroups + group) * 16;
            const Vec p = load(tables.literature_positions + 3 * entry);
            for (int c = 0; c < 3; ++c) {
                const double* row = frame + 4 * c;
                atom14[(i * kAtom14 + a) * 3 + c] = row[0] * p.x + row[1] * p.y + row[2] * p.z + row[3];
            }
            mask14[i * kAtom14 + a] = 1;
        }
}

}  // namespace openfoldpp::coords
