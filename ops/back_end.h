// Where the ranks of a machine compute: what opens their devices and joins them. The CPU needs none of this (null); others
// register themselves under the kind that a machine's text names.
//
//   ASSIGN_OR_RETURN(std::shared_ptr<BackEnd> back_end, OpenBackEnd("CUDA", {.ranks = 2}));
//   ASSIGN_OR_RETURN(std::shared_ptr<Device> device, back_end->OpenDevice(rank));
#ifndef MILLRACE_OPS_BACK_END_H_
#define MILLRACE_OPS_BACK_END_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "dist/communicator.h"
#include "graph/runtime/device.h"

namespace millrace {

class BackEnd {
 public:
  virtual ~BackEnd() = default;
  // Whether its streams run operators of their own: then stages are probed on device 0, by the calling thread, between
  // BeginProbe and EndProbe. False: the CPU's.
  virtual bool own_operators() const = 0;
  virtual absl::Status BeginProbe() = 0;
  virtual absl::Status EndProbe() = 0;
  // Of one rank of this process, once per rank and run.
  virtual absl::StatusOr<std::shared_ptr<Device>> OpenDevice(int rank) = 0;
  // Communicators of ranks 0 to size - 1, in rank order; each on the device of its rank, which has been opened.
  virtual absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeGroup(
      const std::string& name, int size) = 0;
};

struct BackEndOptions {
  int ranks = 1;
  bool nvtx = false;  // names for profilers: Runtime.nvtx
};

// Checks that there is a device for each rank. kFailedPrecondition when there is not.
using BackEndOpener =
    std::function<absl::StatusOr<std::shared_ptr<BackEnd>>(const BackEndOptions& options)>;

// `kind`: as in machine.textproto ("CUDA").
bool RegisterBackEnd(const std::string& kind, BackEndOpener opener);
// Null for "CPU". kFailedPrecondition when this binary was built without the kind.
absl::StatusOr<std::shared_ptr<BackEnd>> OpenBackEnd(const std::string& kind,
                                                     const BackEndOptions& options);

}  // namespace millrace

#endif  // MILLRACE_OPS_BACK_END_H_
