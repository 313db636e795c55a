// Status macros of the whole project. Our own code never throws: every function that can fail
// returns absl::Status or absl::StatusOr<T>, and foreign exceptions are stopped at two doors
// (ops/torch_bridge and graph/runtime).
//
//   absl::StatusOr<Plan> Load(...) {
//     ASSIGN_OR_RETURN(Graph graph, Parse(text));
//     RETURN_IF_ERROR(Check(graph));
//     return Annotate(Build(graph), "building ", name);   // prefixes the message, keeps the code
//   }
#ifndef MILLRACE_GRAPH_BASE_STATUS_H_
#define MILLRACE_GRAPH_BASE_STATUS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace millrace {

// The same status with a prefix in front of its message; OK stays OK.
template <typename... Args>
absl::Status Annotate(const absl::Status& status, const Args&... prefix) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(prefix..., ": ", status.message()));
}

namespace base_internal {
inline absl::Status ToStatus(const absl::Status& s) { return s; }
template <typename T>
absl::Status ToStatus(const absl::StatusOr<T>& s) {
  return s.status();
}
}  // namespace base_internal
}  // namespace millrace

#define MILLRACE_CONCAT_INNER_(a, b) a##b
#define MILLRACE_CONCAT_(a, b) MILLRACE_CONCAT_INNER_(a, b)

#define RETURN_IF_ERROR(expr)                                                  \
  do {                                                                         \
    absl::Status millrace_status_ = ::millrace::base_internal::ToStatus(expr); \
    if (!millrace_status_.ok()) return millrace_status_;                       \
  } while (false)

#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_IMPL_(MILLRACE_CONCAT_(millrace_or_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_IMPL_(tmp, lhs, expr) \
  auto tmp = (expr);                           \
  if (!tmp.ok()) return tmp.status();          \
  lhs = *std::move(tmp)

#endif  // MILLRACE_GRAPH_BASE_STATUS_H_
