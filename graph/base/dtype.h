// Element types of every tensor in graphs, plans, collectives and files, and their sizes in bytes.
#ifndef MILLRACE_GRAPH_BASE_DTYPE_H_
#define MILLRACE_GRAPH_BASE_DTYPE_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"

namespace millrace {

enum class DType : uint8_t { kF32, kF64, kBF16, kF16, kI64, kI32, kI8, kU8, kBool };

// Bytes of one element.
constexpr int64_t SizeOf(DType t) {
  switch (t) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
    case DType::kF16:
      return 2;
    default:
      return 1;
  }
}

// "f32", "bf16", "i64", ...: the spelling in textprotos, plans and messages.
absl::string_view Name(DType t);
std::optional<DType> ParseDType(absl::string_view name);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_BASE_DTYPE_H_
