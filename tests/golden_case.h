// A golden case - numbers that a public reference package computed - and the kinds of cases that this
// repository can compute itself. A kind is one file, golden_KIND.cc:
//
//   absl::StatusOr<GoldenOutputs> Scale(const GoldenCase& c) {
//     ASSIGN_OR_RETURN(absl::Span<const float> x, c.Input("input.x"));
//     ... call the code under test ...
//     GoldenOutputs outputs;
//     outputs.Put("output.y", {n}, y.data());
//     return outputs;
//   }
//   REGISTER_GOLDEN_KIND(scale, Scale);
//
// and one line in KINDS of tests/BUILD. A kind computes with the code under test alone: it reads inputs and
// arguments, never the expected numbers.
#ifndef MILLRACE_TESTS_GOLDEN_CASE_H_
#define MILLRACE_TESTS_GOLDEN_CASE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/safetensors/safetensors.h"
#include "graph/base/dtype.h"

namespace millrace {

// One line of manifest.jsonl with its inputs.
struct GoldenCase {
  std::string name, kind;
  nlohmann::json args, meta, tolerance;
  std::vector<std::string> compare;  // the tensors to compute
  SafetensorsFile inputs;            // opened when the case is run

  bool Asks(const std::string& tensor) const;
  absl::StatusOr<const SafetensorsFile::Entry*> FindInput(const std::string& tensor) const;
  absl::StatusOr<absl::Span<const float>> Input(const std::string& tensor) const;
};

// All cases of DIR/manifest.jsonl, in order, without inputs. kNotFound when there is no such file.
absl::StatusOr<std::vector<GoldenCase>> ReadManifest(const std::string& dir);

// What a kind computed. Tensors that `compare` does not name are dropped by the runner.
class GoldenOutputs {
 public:
  struct Tensor {
    DType dtype = DType::kF32;
    std::vector<int64_t> shape;
    std::vector<uint8_t> bytes;
  };

  // Copies. The type written is the type given: float for results, double and integers for traces.
  void Put(const std::string& name, std::vector<int64_t> shape, const float* data);
  void Put(const std::string& name, std::vector<int64_t> shape, const double* data);
  void Put(const std::string& name, std::vector<int64_t> shape, const int64_t* data);
  const Tensor* Find(const std::string& name) const;  // nullptr when absent

 private:
  void PutBytes(const std::string& name, DType dtype, std::vector<int64_t> shape, const void* data);
  std::map<std::string, Tensor> tensors_;
};

// Reads the fields of a JSON object and knows which ones were not read: an argument that a kind overlooks
// must not pass for one that it honours. A field of the wrong type throws; the runner stops that.
class GoldenArgs {
 public:
  explicit GoldenArgs(const nlohmann::json& object) : object_(object) {}
  template <typename T>
  T Get(const std::string& name, T default_value) {
    read_.insert(name);
    const auto it = object_.find(name);
    return it == object_.end() ? default_value : it->get<T>();
  }
  bool Has(const std::string& name) const { return object_.contains(name); }
  absl::Status AllWereRead() const;  // otherwise kUnimplemented with the names

 private:
  const nlohmann::json& object_;
  std::set<std::string> read_;
};

// May throw nlohmann's or c10's exceptions: the runner stops them.
using GoldenKind = std::function<absl::StatusOr<GoldenOutputs>(const GoldenCase&)>;

// Filled by static initialisers, read-only afterwards.
bool RegisterGoldenKind(const std::string& kind, GoldenKind compute);
const GoldenKind* FindGoldenKind(const std::string& kind);  // nullptr when not supported

#define REGISTER_GOLDEN_KIND(kind, ...)                                \
  [[maybe_unused]] static const bool golden_kind_##kind##_registered = \
      ::millrace::RegisterGoldenKind(#kind, __VA_ARGS__)

}  // namespace millrace

#endif  // MILLRACE_TESTS_GOLDEN_CASE_H_
