// openfoldpp._native.coords: checks, conversion and the release of the GIL for csrc's coords*.h.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "openfoldpp/coords.h"
#include "openfoldpp/coords_bins.h"

namespace py = pybind11;
namespace co = openfoldpp::coords;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;
using Doubles = Array<double>;
using Floats = Array<float>;
using Ints = Array<std::int32_t>;
using Mask = Array<std::uint8_t>;
using Shape = std::vector<py::ssize_t>;

void require(const py::array& array, const char* name, const Shape& shape) {
    bool fits = array.ndim() == static_cast<py::ssize_t>(shape.size());
    for (py::ssize_t d = 0; fits && d < array.ndim(); ++d) fits = shape[d] < 0 || array.shape(d) == shape[d];
    if (fits) return;
    std::string expected, got;
    for (const auto size : shape) expected += (expected.empty() ? "" : ", ") + (size < 0 ? "*" : std::to_string(size));
    for (py::ssize_t d = 0; d < array.ndim(); ++d) got += (d ? ", " : "") + std::to_string(array.shape(d));
    throw std::invalid_argument(std::string(name) + " has shape [" + got + "], expected [" + expected + "]");
}

void require_types(const Ints& residue_type, py::ssize_t n) {
    require(residue_type, "residue_type", {n});
    for (py::ssize_t i = 0; i < n; ++i)
        if (residue_type.data()[i] < 0 || residue_type.data()[i] >= co::kResidueTypes)
            throw std::invalid_argument("residue_type[" + std::to_string(i) + "] is " +
                                        std::to_string(residue_type.data()[i]) + ", expected 0 to 20");
}

// The arrays of openfoldpp/geometry/residues.py, checked once and kept alive.
class Tables {
  public:
    Tables(Ints atom37_of_atom14, Ints chi_atoms, Ints rigid_group, Doubles literature_positions,
           Doubles default_frames)
        : atoms_(std::move(atom37_of_atom14)),
          chis_(std::move(chi_atoms)),
          groups_(std::move(rigid_group)),
          positions_(std::move(literature_positions)),
          frames_(std::move(default_frames)) {
        require(atoms_, "atom37_of_atom14", {21, 14});
        require(chis_, "chi_atoms", {21, 4, 4});
        require(groups_, "rigid_group", {21, 14});
        require(positions_, "literature_positions", {21, 14, 3});
        require(frames_, "default_frames", {21, 8, 4, 4});
        below(atoms_, "atom37_of_atom14", co::kAtom37);
        below(chis_, "chi_atoms", co::kAtom37);
        below(groups_, "rigid_group", co::kGroups);
    }
    co::ResidueTables view() const {
        return {atoms_.data(), chis_.data(), groups_.data(), positions_.data(), frames_.data()};
    }

  private:
    static void below(const Ints& array, const char* name, std::int32_t end) {
        for (py::ssize_t i = 0; i < array.size(); ++i)
            if (array.data()[i] < -1 || array.data()[i] >= end)
                throw std::invalid_argument(std::string(name) + " holds " + std::to_string(array.data()[i]));
    }
    Ints atoms_, chis_, groups_;
    Doubles positions_, frames_;
};

using Convert = void (*)(const double*, const std::uint8_t*, const std::int32_t*, std::size_t,
                         const co::ResidueTables&, double*, std::uint8_t*);

template <Convert convert, int kFrom, int kTo>
py::tuple reorder(const Doubles& xyz, const Mask& mask, const Ints& residue_type, const Tables& tables) {
    require(xyz, "positions", {-1, kFrom, 3});
    const auto n = xyz.shape(0);
    require(mask, "mask", {n, kFrom});
    require_types(residue_type, n);
    Doubles out(Shape{n, kTo, 3});
    Mask out_mask(Shape{n, kTo});
    const auto view = tables.view();
    auto *to = out.mutable_data();
    auto *to_mask = out_mask.mutable_data();
    {
        py::gil_scoped_release unlocked;
        convert(xyz.data(), mask.data(), residue_type.data(), n, view, to, to_mask);
    }
    return py::make_tuple(out, out_mask);
}

py::tuple backbone_frames(const Doubles& atom37, const Mask& mask37) {
    require(atom37, "atom37", {-1, co::kAtom37, 3});
    const auto n = atom37.shape(0);
    require(mask37, "mask37", {n, co::kAtom37});
    Doubles rotations(Shape{n, 3, 3}), origins(Shape{n, 3});
    Mask known(Shape{n});
    auto *r = rotations.mutable_data(), *t = origins.mutable_data();
    auto *k = known.mutable_data();
    {
        py::gil_scoped_release unlocked;
        co::backbone_frames(atom37.data(), mask37.data(), n, r, t, k);
    }
    return py::make_tuple(rotations, origins, known);
}

Doubles quaternions(const Doubles& rotations) {
    require(rotations, "rotations", {-1, 3, 3});
    Doubles out(Shape{rotations.shape(0), 4});
    auto* q = out.mutable_data();
    py::gil_scoped_release unlocked;
    co::quaternions(rotations.data(), rotations.shape(0), q);
    return out;
}

py::tuple torsion_angles(const Doubles& atom37, const Mask& mask37, const Ints& residue_type,
                         const Mask& bonded, const Tables& tables) {
    require(atom37, "atom37", {-1, co::kAtom37, 3});
    const auto n = atom37.shape(0);
    require(mask37, "mask37", {n, co::kAtom37});
    require_types(residue_type, n);
    require(bonded, "bonded", {n});
    Doubles sin_cos(Shape{n, co::kTorsions, 2});
    Mask known(Shape{n, co::kTorsions});
    const auto view = tables.view();
    auto* s = sin_cos.mutable_data();
    auto* k = known.mutable_data();
    {
        py::gil_scoped_release unlocked;
        co::torsion_angles(atom37.data(), mask37.data(), residue_type.data(), bonded.data(), n, view, s, k);
    }
    return py::make_tuple(sin_cos, known);
}

Doubles rigid_group_frames(const Doubles& rotations, const Doubles& origins, const Doubles& sin_cos,
                           const Ints& residue_type, const Tables& tables) {
    require(rotations, "rotations", {-1, 3, 3});
    const auto n = rotations.shape(0);
    require(origins, "origins", {n, 3});
    require(sin_cos, "sin_cos", {n, co::kTorsions, 2});
    require_types(residue_type, n);
    Doubles frames(Shape{n, co::kGroups, 4, 4});
    const auto view = tables.view();
    auto* f = frames.mutable_data();
    py::gil_scoped_release unlocked;
    co::rigid_group_frames(rotations.data(), origins.data(), sin_cos.data(), residue_type.data(), n, view, f);
    return frames;
}

py::tuple rebuild_atom14(const Doubles& frames, const Ints& residue_type, const Tables& tables) {
    require(frames, "frames", {-1, co::kGroups, 4, 4});
    const auto n = frames.shape(0);
    require_types(residue_type, n);
    Doubles atom14(Shape{n, co::kAtom14, 3});
    Mask mask14(Shape{n, co::kAtom14});
    const auto view = tables.view();
    auto* xyz = atom14.mutable_data();
    auto* mask = mask14.mutable_data();
    {
        py::gil_scoped_release unlocked;
        co::rebuild_atom14(frames.data(), residue_type.data(), n, view, xyz, mask);
    }
    return py::make_tuple(atom14, mask14);
}

void require_centers(const Doubles& centers, py::ssize_t bins) {
    require(centers, "centers", {bins});
    if (centers.size() < 2) throw std::invalid_argument("centers: fewer than two bins");
    for (py::ssize_t b = 1; b < centers.size(); ++b)
        if (!(centers.data()[b] > centers.data()[b - 1])) throw std::invalid_argument("centers do not rise");
}

py::tuple bin_expectation(const Floats& logits, const Doubles& centers) {
    require(logits, "logits", {-1, -1});
    const auto rows = logits.shape(0), bins = logits.shape(1);
    require_centers(centers, bins);
    Floats expectation(Shape{rows}), probabilities(Shape{rows, bins});
    auto *e = expectation.mutable_data(), *p = probabilities.mutable_data();
    {
        py::gil_scoped_release unlocked;
        co::bin_expectation(logits.data(), rows, bins, centers.data(), p, e);
    }
    return py::make_tuple(expectation, probabilities);
}

Floats encode_in_bins(const Doubles& values, const Doubles& centers, double floor) {
    require(values, "values", {-1});
    require_centers(centers, -1);
    Floats logits(Shape{values.shape(0), centers.shape(0)});
    auto* out = logits.mutable_data();
    py::gil_scoped_release unlocked;
    co::encode_in_bins(values.data(), values.shape(0), centers.data(), centers.shape(0), floor, out);
    return logits;
}

double predicted_tm_score(const Floats& logits, const Doubles& centers) {
    require(logits, "logits", {-1, -1, -1});
    const auto n = logits.shape(0), bins = logits.shape(2);
    require(logits, "logits", {n, n, bins});
    require_centers(centers, bins);
    py::gil_scoped_release unlocked;
    return co::predicted_tm_score(logits.data(), n, bins, centers.data());
}

Floats distance_logits(const Doubles& points, const Mask& known, const Doubles& centers,
                       double standard_deviation) {
    require(points, "points", {-1, 3});
    const auto n = points.shape(0);
    require(known, "known", {n});
    require_centers(centers, -1);
    Floats logits(Shape{n, n, centers.shape(0)});
    auto* out = logits.mutable_data();
    py::gil_scoped_release unlocked;
    co::distance_logits(points.data(), known.data(), n, centers.data(), centers.shape(0), standard_deviation,
                        out);
    return logits;
}

}  // namespace

void bind_coords(py::module_& parent) {
    auto m = parent.def_submodule("coords", "Atoms, frames, torsions and binned confidence; see csrc's coords*.h.");
    py::class_<Tables>(m, "ResidueTables")
        .def(py::init<Ints, Ints, Ints, Doubles, Doubles>(), py::kw_only(), py::arg("atom37_of_atom14"),
             py::arg("chi_atoms"), py::arg("rigid_group"), py::arg("literature_positions"),
             py::arg("default_frames"));
    m.def("atom14_to_atom37", &reorder<co::atom14_to_atom37, co::kAtom14, co::kAtom37>);
    m.def("atom37_to_atom14", &reorder<co::atom37_to_atom14, co::kAtom37, co::kAtom14>);
    m.def("backbone_frames", &backbone_frames);
    m.def("quaternions", &quaternions);
    m.def("torsion_angles", &torsion_angles);
    m.def("rigid_group_frames", &rigid_group_frames);
    m.def("rebuild_atom14", &rebuild_atom14);
    m.def("bin_expectation", &bin_expectation);
    m.def("encode_in_bins", &encode_in_bins);
    m.def("predicted_tm_score", &predicted_tm_score);
    m.def("distance_logits", &distance_logits);
}
