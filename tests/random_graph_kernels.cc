// The kernels of blend and renew: every number written is a hash of all bytes read, the node, the rank and the step,
// so that one byte read too early, too late or from a wrong place changes everything after it.
#include <cstring>

#include "graph/base/random.h"
#include "ops/kernel_registry.h"
#include "tests/random_graph.h"

namespace millrace {
namespace {

class HashKernel final : public Kernel {
 public:
  explicit HashKernel(const KernelArgs& a)
      : rank_(a.rank.rank),
        node_(a.node_id),
        identity_(HashCombine(HashString(a.node().name), static_cast<uint64_t>(rank_))) {
    for (int i = 0; i < a.inputs(); ++i) inputs_.push_back({a.In<char>(i), a.input(i).bytes()});
    for (int i = 0; i < a.outputs(); ++i) {
      outputs_.push_back({a.Out<char>(i), a.output(i).numel(), a.output(i).dtype});
    }
  }

  absl::Status Run(const StepContext& context) override {
    uint64_t h = HashCombine(identity_, static_cast<uint64_t>(context.step));
    for (const Input& in : inputs_) {
      for (int64_t i = 0; i < in.bytes; i += 4) {  // all types have 4 bytes or 8
        uint32_t word;
        std::memcpy(&word, in.data + i, 4);
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
      }
    }
    (*static_cast<RandomGraphDigests*>(const_cast<void*>(context.user)))[rank_][node_] = h;
    for (const Output& out : outputs_) {
      for (int64_t i = 0; i < out.numel; ++i) {
        h = h * 0x5851f42d4c957f2du + 0x14057b7ef767814fu;
        const auto number = static_cast<int64_t>(h >> 48);  // small: sums of floats stay exact
        if (out.dtype == DType::kI64) {
          reinterpret_cast<int64_t*>(out.data)[i] = number;
        } else {
          reinterpret_cast<float*>(out.data)[i] = static_cast<float>(number);
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  struct Input {
    const char* data;
    int64_t bytes;
  };
  struct Output {
    char* data;
    int64_t numel;
    DType dtype;
  };
  const int rank_;
  const NodeId node_;
  const uint64_t identity_;
  std::vector<Input> inputs_;
  std::vector<Output> outputs_;
};

absl::StatusOr<std::unique_ptr<Kernel>> Make(const KernelArgs& a) {
  return std::make_unique<HashKernel>(a);
}

REGISTER_KERNEL(blend, Make);
REGISTER_KERNEL(renew, Make);

}  // namespace
}  // namespace millrace
