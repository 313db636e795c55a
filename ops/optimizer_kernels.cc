#include "ops/optimizer_kernels.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "ops/clip_factor.h"
#include "ops/optimizer_loops.h"

// Contraction into fused multiply-add is off for the whole build, so all clones give the same bits.
#define MILLRACE_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))

namespace millrace {
namespace {

// Cuts fall on cache lines of a 16-bit copy, so that threads share none, given aligned arrays.
constexpr int64_t kLine = 64;
// Below this a thread costs more to start than it saves.
constexpr int64_t kMinRange = 65536;

// body(begin, count) for ranges that cover [0, n), the first of them on this thread.
template <typename Body>
void ForRanges(int64_t n, int threads, const Body& body) {
  const int64_t parts = std::clamp<int64_t>(n / kMinRange, 1, std::max(threads, 1));
  const int64_t size = ((n + parts - 1) / parts + kLine - 1) / kLine * kLine;
  std::vector<std::thread> others;
  others.reserve(static_cast<size_t>(parts));
  for (int64_t begin = size; begin < n; begin += size) {
    const int64_t count = std::min(size, n - begin);
    try {
      others.emplace_back([&body, begin, count] { body(begin, count); });
    } catch (const std::system_error&) {  // no thread to be had: later, but the same
      body(begin, count);
    }
  }
  body(0, std::min(size, n));
  for (std::thread& t : others) t.join();
}

absl::StatusOr<Format> FormatOf(DType type, const char* what) {
  switch (type) {
    case DType::kF32:
      return Format::kF32;
    case DType::kBF16:
      return Format::kBF16;
    case DType::kF16:
      return Format::kF16;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat(what, " of type ", Name(type), "; optimizers take f32, bf16 or f16"));
  }
}

absl::StatusOr<UpdateFn> Find(Rule rule, const UpdateOptions& o) {
  if (!Supported(o.isa)) {
    return absl::FailedPreconditionError(
        absl::StrCat(Name(o.isa), " is not available here; the best that is: ", Name(BestIsa())));
  }
  ASSIGN_OR_RETURN(const Format grad, FormatOf(o.grad, "gradients"));
  Format copy = Format::kNone;
  if (o.copy != nullptr) {
    ASSIGN_OR_RETURN(copy, FormatOf(o.copy_type, "a copy"));
  }
  auto* find = o.isa == Isa::kAvx512 ? &Avx512Update
               : o.isa == Isa::kAvx2 ? &Avx2Update
                                     : &ScalarUpdate;
  return find(rule, grad, copy);
}

template <typename T>
T* Advance(T* x, int64_t n) {
  return x == nullptr ? nullptr : x + n;
}

UpdateSpan Part(const UpdateSpan& a, const UpdateOptions& o, int64_t begin, int64_t count) {
  return {Advance(a.p, begin),
          Advance(static_cast<const char*>(a.g), begin * SizeOf(o.grad)),
          Advance(a.m, begin),
          Advance(a.v, begin),
          Advance(static_cast<char*>(a.out), begin * SizeOf(o.copy_type)),
          count};
}

absl::Status Run(Rule rule, const UpdateSpan& a, const UpdateConstants& c, const UpdateOptions& o) {
  ASSIGN_OR_RETURN(const UpdateFn update, Find(rule, o));
  ForRanges(a.n, o.threads,
            [&](int64_t begin, int64_t count) { update(Part(a, o, begin, count), c); });
  return absl::OkStatus();
}

// What Adam and LAMB have in common; in double, rounded once.
template <typename Scalars>
UpdateConstants MomentConstants(const Scalars& s, double bias1) {
  UpdateConstants c;
  c.scale = s.grad_scale;
  c.one_minus_beta1 = static_cast<float>(1 - s.beta1);
  c.beta2 = static_cast<float>(s.beta2);
  c.one_minus_beta2 = static_cast<float>(1 - s.beta2);
  c.bias2_sqrt = static_cast<float>(std::sqrt(1 - std::pow(s.beta2, static_cast<double>(s.step))));
  c.eps = static_cast<float>(s.eps);
  c.inverse_bias1 = static_cast<float>(1 / bias1);
  return c;
}

UpdateConstants LambConstants(const LambScalars& s) {
  UpdateConstants c = MomentConstants(s, 1 - std::pow(s.beta1, static_cast<double>(s.step)));
  c.decay = static_cast<float>(s.weight_decay);
  return c;
}

}  // namespace

const char* Name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "?";
}

bool Supported(Isa isa) {
#if defined(__x86_64__)
  const auto built = [](auto* find) {
    return find(Rule::kAdamW, Format::kF32, Format::kNone) != nullptr;
  };
  if (isa == Isa::kAvx512) return __builtin_cpu_supports("avx512f") && built(&Avx512Update);
  if (isa == Isa::kAvx2) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c") && built(&Avx2Update);
  }
#endif
  return isa == Isa::kScalar;
}

Isa BestIsa() {
  static const Isa best = Supported(Isa::kAvx512) ? Isa::kAvx512
                          : Supported(Isa::kAvx2) ? Isa::kAvx2
                                                  : Isa::kScalar;
  return best;
}

UpdateConstants ConstantsOf(const AdamScalars& s) {
  const double bias1 = 1 - std::pow(s.beta1, static_cast<double>(s.step));
  UpdateConstants c = MomentConstants(s, bias1);
  c.decay = static_cast<float>(s.decoupled ? 1 - s.lr * s.weight_decay : s.weight_decay);
  c.step_size = static_cast<float>(s.lr / bias1);
  return c;
}

UpdateConstants ConstantsOf(const SgdScalars& s) {
  UpdateConstants c;
  c.scale = s.grad_scale;
  c.decay = static_cast<float>(s.weight_decay);
  c.momentum = static_cast<float>(s.momentum);
  c.step_size = static_cast<float>(s.lr);
  return c;
}

absl::Status AdamUpdate(float* p, const void* g, float* m, float* v, int64_t n,
                        const AdamScalars& s, const UpdateOptions& options) {
  const Rule rule = s.decoupled ? Rule::kAdamW : Rule::kAdam;
  return Run(rule, {p, g, m, v, options.copy, n}, ConstantsOf(s), options);
}

absl::Status SgdUpdate(float* p, const void* g, float* buffer, int64_t n, const SgdScalars& s,
                       const UpdateOptions& options) {
  const Rule rule = s.momentum == 0 || buffer == nullptr ? Rule::kSgd
                    : s.nesterov                         ? Rule::kSgdNesterov
                                                         : Rule::kSgdMomentum;
  return Run(rule, {p, g, buffer, nullptr, options.copy, n}, ConstantsOf(s), options);
}

// Default options cannot fail.
void AdamUpdate(float* p, const float* g, float* m, float* v, int64_t n, const AdamScalars& s) {
  AdamUpdate(p, g, m, v, n, s, UpdateOptions()).IgnoreError();
}

void SgdUpdate(float* p, const float* g, float* buffer, int64_t n, const SgdScalars& s) {
  SgdUpdate(p, g, buffer, n, s, UpdateOptions()).IgnoreError();
}

absl::StatusOr<LambNorms> LambMoments(const float* p, const void* g, float* m, float* v, int64_t n,
                                      const LambScalars& s, const UpdateOptions& options) {
  ASSIGN_OR_RETURN(const UpdateFn update, Find(Rule::kLambMoments, options));
  const UpdateConstants c = LambConstants(s);
  // The loop takes a parameter it could write; this rule does not.
  const UpdateSpan all = {const_cast<float*>(p), g, m, v, nullptr, n};
  LambNorms total;
  std::mutex mu;
  ForRanges(n, options.threads, [&](int64_t begin, int64_t count) {
    constexpr int64_t kBlock = 1024;
    float updates[kBlock];
    LambNorms mine;
    for (int64_t i = begin; i < begin + count; i += kBlock) {
      UpdateSpan part = Part(all, options, i, std::min(kBlock, begin + count - i));
      part.out = updates;
      update(part, c);
      mine.param.Add(PartialNorm(part.p, part.n));
      mine.update.Add(PartialNorm(updates, part.n));
    }
    std::lock_guard<std::mutex> lock(mu);
    total.param.Add(mine.param);
    total.update.Add(mine.update);
  });
  return total;
}

float LambTrustRatio(const LambNorms& norms) {
  const double param = norms.param.Norm(), update = norms.update.Norm();
  return param == 0 || update == 0 ? 1.0f : static_cast<float>(param / update);
}

absl::Status LambApply(float* p, const float* m, const float* v, int64_t n, float trust_ratio,
                       const LambScalars& s, const UpdateOptions& options) {
  UpdateConstants c = LambConstants(s);
  c.step_size = static_cast<float>(s.lr * trust_ratio);
  const UpdateSpan all = {p, nullptr, const_cast<float*>(m), const_cast<float*>(v), options.copy,
                          n};
  return Run(Rule::kLambApply, all, c, options);
}

float ClipFactor(float norm, double max_norm) { return ClipFactorOf(norm, max_norm); }

float UnscaleClipFactor(float scaled_norm, double scale, double max_norm) {
  return UnscaleClipFactorOf(scaled_norm, scale, max_norm);
}

MILLRACE_CLONES void AddInPlace(float* __restrict total, const float* __restrict addend,
                                int64_t n) {
  for (int64_t i = 0; i < n; ++i) total[i] += addend[i];
}

}  // namespace millrace
