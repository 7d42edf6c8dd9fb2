#include <cmath>
#include <vector>

#include "check.h"
#include "openfoldpp/coords.h"
#include "openfoldpp/coords_bins.h"

using namespace openfoldpp::coords;

namespace {

bool near(double a, double b, double tolerance = 1e-12) { return std::fabs(a - b) < tolerance; }

// One made-up residue type: N, CA, C in the backbone group, one side-chain atom carried by chi1.
struct Tables {
    std::vector<std::int32_t> atoms = std::vector<std::int32_t>(kResidueTypes * kAtom14, -1);
    std::vector<std::int32_t> chis = std::vector<std::int32_t>(kResidueTypes * kChis * 4, -1);
    std::vector<std::int32_t> groups = std::vector<std::int32_t>(kResidueTypes * kAtom14, -1);
    std::vector<double> positions = std::vector<double>(kResidueTypes * kAtom14 * 3, 0.0);
    std::vector<double> frames = std::vector<double>(kResidueTypes * kGroups * 16, 0.0);

    Tables() {
        const double xyz[4][3] = {{-0.5, 1.4, 0}, {0, 0, 0}, {1.5, 0, 0}, {0.6, 1.4, 0}};
        const std::int32_t columns[4] = {0, 1, 2, 5};
        for (int a = 0; a < 4; ++a) {
            atoms[a] = columns[a];
            groups[a] = a == 3 ? 4 : 0;
            for (int c = 0; c < 3; ++c) positions[3 * a + c] = xyz[a][c];
        }
        for (int g : {0, 4})
            for (int c = 0; c < 4; ++c) frames[g * 16 + 5 * c] = 1.0;
        const std::int32_t chi[4] = {2, 1, 0, 5};
        for (int a = 0; a < 4; ++a) chis[a] = chi[a];
    }
    ResidueTables view() const {
        return {atoms.data(), chis.data(), groups.data(), positions.data(), frames.data()};
    }
};

}  // namespace

TEST(coords_backbone_of_the_reference_position_has_the_identity_frame) {
    const Tables tables;
    const double rotation[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1}, origin[3] = {0, 0, 0};
    std::vector<double> sin_cos(14, 0.0);
    for (int t = 0; t < kTorsions; ++t) sin_cos[2 * t + 1] = 1.0;
    sin_cos[6] = 1.0, sin_cos[7] = 0.0;  // chi1 = 90 degrees
    const std::int32_t type[1] = {0};
    double frames[kGroups * 16], atom14[kAtom14 * 3], atom37[kAtom37 * 3];
    std::uint8_t mask14[kAtom14], mask37[kAtom37];
    rigid_group_frames(rotation, origin, sin_cos.data(), type, 1, tables.view(), frames);
    rebuild_atom14(frames, type, 1, tables.view(), atom14, mask14);
    CHECK(mask14[3] == 1 && mask14[4] == 0);
    CHECK(near(atom14[9], 0.6) && near(atom14[10], 0.0) && near(atom14[11], 1.4));  // y turned into z

    atom14_to_atom37(atom14, mask14, type, 1, tables.view(), atom37, mask37);
    CHECK(mask37[5] == 1 && mask37[3] == 0 && near(atom37[17], 1.4));
    double r[9], t[3];
    std::uint8_t known = 0;
    backbone_frames(atom37, mask37, 1, r, t, &known);
    CHECK(known == 1);
    for (int i = 0; i < 9; ++i) CHECK(near(r[i], rotation[i]));
}

TEST(coords_torsions_need_all_their_atoms) {
    const Tables tables;
    std::vector<double> atom37(kAtom37 * 3, 0.0), sin_cos(14);
    std::vector<std::uint8_t> mask(kAtom37, 0), known(7);
    const double xyz[4][3] = {{0, 1, 0}, {0, 0, 0}, {1, 0, 0}, {1, 0, 1}};  // C, CA, N, side chain: +90 degrees
    const int columns[4] = {2, 1, 0, 5};
    for (int a = 0; a < 4; ++a) {
        mask[columns[a]] = 1;
        for (int c = 0; c < 3; ++c) atom37[columns[a] * 3 + c] = xyz[a][c];
    }
    const std::int32_t type[1] = {0};
    const std::uint8_t bonded[1] = {1};  // a first residue has none before it, whatever is said
    torsion_angles(atom37.data(), mask.data(), type, bonded, 1, tables.view(), sin_cos.data(), known.data());
    CHECK(known[3] == 1 && near(sin_cos[6], 1.0) && near(sin_cos[7], 0.0));
    for (int t : {0, 1, 2, 4, 5, 6}) CHECK(known[t] == 0 && sin_cos[2 * t] == 0.0 && sin_cos[2 * t + 1] == 1.0);
    mask[5] = 0;
    torsion_angles(atom37.data(), mask.data(), type, bonded, 1, tables.view(), sin_cos.data(), known.data());
    CHECK(known[3] == 0);
}

TEST(coords_quaternion_of_a_half_turn) {
    const double half_turn[9] = {-1, 0, 0, 0, -1, 0, 0, 0, 1};
    double q[4];
    quaternions(half_turn, 1, q);
    CHECK(near(q[0], 0) && near(q[1], 0) && near(q[2], 0) && near(std::fabs(q[3]), 1));
}

TEST(coords_bins_keep_the_value) {
    const std::vector<double> centers = {1, 3, 5, 7};
    const std::vector<double> values = {1, 2.5, 7, 6.999, -4, 90};
    const std::vector<double> expected = {1, 2.5, 7, 6.999, 1, 7};
    std::vector<float> logits(values.size() * 4), found(values.size());
    encode_in_bins(values.data(), values.size(), centers.data(), 4, -100, logits.data());
    bin_expectation(logits.data(), values.size(), 4, centers.data(), nullptr, found.data());
    for (std::size_t i = 0; i < values.size(); ++i) CHECK(near(found[i], expected[i], 1e-6));
}

TEST(coords_tm_score_takes_the_best_frame) {
    // Two residues: frame 0 is sure of no error, frame 1 of the largest.
    const std::vector<double> centers = {0.0, 1000.0};
    const std::vector<float> logits = {0, -100, 0, -100, -100, 0, -100, 0};
    CHECK(near(predicted_tm_score(logits.data(), 2, 2, centers.data()), 1.0, 1e-6));
}
