#include "graph/base/dtype.h"

#include <array>
#include <utility>

namespace millrace {
namespace {
constexpr std::array<std::pair<DType, absl::string_view>, 9> kNames = {{{DType::kF32, "f32"},
                                                                        {DType::kF64, "f64"},
                                                                        {DType::kBF16, "bf16"},
                                                                        {DType::kF16, "f16"},
                                                                        {DType::kI64, "i64"},
                                                                        {DType::kI32, "i32"},
                                                                        {DType::kI8, "i8"},
                                                                        {DType::kU8, "u8"},
                                                                        {DType::kBool, "bool"}}};
}  // namespace

absl::string_view Name(DType t) {
  for (const auto& [type, name] : kNames) {
    if (type == t) return name;
  }
  return "?";
}

std::optional<DType> ParseDType(absl::string_view name) {
  for (const auto& [type, text] : kNames) {
    if (text == name) return type;
  }
  return std::nullopt;
}

}  // namespace millrace
