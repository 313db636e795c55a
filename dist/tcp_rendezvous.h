// The store of a run of several processes: LibTorch's c10d::TCPStore, the one torchrun's own
// programs use. Apart from rendezvous.h because it needs LibTorch.
//
//   ASSIGN_OR_RETURN(Launch launch, ReadLaunch());
//   ASSIGN_OR_RETURN(std::shared_ptr<RendezvousStore> store, ConnectTcpStore(launch));
//
// Rank 0 serves at MASTER_ADDR:MASTER_PORT, in a thread of its process: when that process ends, the
// others' calls are kUnavailable. Under torchrun with its static rendezvous, whose agent holds the
// port, set TORCHELASTIC_USE_AGENT_STORE=True as torchrun does: all ranks are clients then.
#ifndef MILLRACE_DIST_TCP_RENDEZVOUS_H_
#define MILLRACE_DIST_TCP_RENDEZVOUS_H_

#include <chrono>
#include <memory>

#include "absl/status/statusor.h"
#include "dist/rendezvous.h"

namespace millrace {

// Returns once connected, not when all have come. kUnavailable when the server is not there within
// `timeout`, or the port is taken; kInvalidArgument for a Launch without an address.
absl::StatusOr<std::shared_ptr<RendezvousStore>> ConnectTcpStore(
    const Launch& launch, std::chrono::milliseconds timeout = std::chrono::minutes(5));

}  // namespace millrace

#endif  // MILLRACE_DIST_TCP_RENDEZVOUS_H_
