// Damages valid plans in ways that planners and people do, to measure what the verifier finds. Only harm
// counts: taking away an edge that others imply, or moving a buffer to where nothing lives, is no damage, and
// the engine tries elsewhere until the plan is really broken. For tests.
//
//   for (Damage kind : AllDamage()) {
//     std::optional<Mutant> mutant = Mutate(plan, kind, seed);
//     if (mutant) EXPECT_FALSE(Verify(mutant->plan).ok) << mutant->what;
//   }
#ifndef MILLRACE_GRAPH_VERIFY_MUTATION_H_
#define MILLRACE_GRAPH_VERIFY_MUTATION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "graph/plan/plan.h"

namespace millrace {

enum class Damage : uint8_t {
  // Edges and lanes.
  kDroppedEdge,
  kDroppedDoneEdges,  // nothing waits for an asynchronous result any more
  kReversedEdge,
  kSwappedLaneOrder,
  kSwappedEngineOrder,
  kDuplicateNode,
  kMissingNode,  // on one rank
  kNodeInWrongLane,
  kDoneBeforeStart,
  kCyclicCredit,
  kCreditOverLimit,
  // Ranks.
  kSwappedCollectives,  // on one rank
  kMissingRank,
  kRankServedTwice,
  // Memory.
  kOverlappingBuffers,
  kOverlappingPersistent,
  kOffsetOutsideArena,
  kMisaligned,
  kBudgetExceeded,
  kArenaTooSmall,
  // Collectives.
  kWrongCount,
  kWrongDType,
  kWrongGroup,
  kWrongPartner,
  // Gradients and parameters.
  kDroppedGradient,
  kGradientCountedTwice,
  kWrongScale,
  kUpdateBeforeReduce,
  kGradientOfStepBefore,  // the update reads what the last step left
  kWrongDelay,            // declares a staleness that is not so
  kDoubleUpdate,
  kReadWhileSharded,
  kStaleParameter,  // old shards gathered after the update
  kShiftedSlice,
  kUnclippedUpdate,
  kKeptLossScale,     // the coefficient does not take the loss scale off
  kUnscaledOnceMore,  // the loss is not scaled, its gradients are unscaled all the same
  // Copies between tiers.
  kDroppedCopy,  // nothing arrives, or what was there when the step began
  kSwappedCopies,
  kUpdateAcrossTiers,  // on the host, with the gradient that is still on the device
  kNormWithoutBucket,
  // Where the devices have memory of their own.
  kLeftOutCrossing,   // a reader takes what lies on the other side instead of its copy
  kPageableCopy,      // a pinned buffer in pageable memory
  kHostWorkOnDevice,  // a pinned buffer in the device's memory, where the host works on it
  kSavedOfOther,      // another stage's or micro-batch's saved block
  kWrongHash
};

std::vector<Damage> AllDamage();
absl::string_view Name(Damage damage);  // "dropped edge"

struct Mutant {
  Plan plan;
  std::string what;  // "rank 1: all_gather/a and all_gather/b swapped"
};

// nullopt: this plan offers nothing of this kind to break. The same arguments give the same mutant.
std::optional<Mutant> Mutate(const Plan& plan, Damage damage, uint64_t seed);

// The opposite: an edge added that others imply, a buffer moved to where nothing lives meanwhile, or a rank given a
// copy of its plan. Does no harm, so the verifier must still pass the plan. nullopt when nothing was found to change.
std::optional<Mutant> ChangeHarmlessly(const Plan& plan, uint64_t seed);

}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_MUTATION_H_
