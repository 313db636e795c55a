// Breaks plans in every way the mutation engine knows, asks the verifier, and counts: what mutation tests share.
// Thread-safe, so that a test may use all cores.
//
//   MutationTally tally;
//   tally.Break(plan, "digits_vit on 2 ranks", /*seed=*/1);     // one mutant of every kind; complains through gtest
//   std::cout << tally.Table();                                 // by kind: found, made, which checks spoke
#ifndef MILLRACE_GRAPH_VERIFY_TESTING_MUTATION_TALLY_H_
#define MILLRACE_GRAPH_VERIFY_TESTING_MUTATION_TALLY_H_

#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "graph/verify/mutation.h"

namespace millrace {

class MutationTally {
 public:
  // The valid plan must pass, every mutant of it must be refused with a node or rank named, and the same plan changed
  // without harm must pass again.
  void Break(const Plan& plan, const std::string& name, uint64_t seed);

  // A line for each kind, then the sums.
  std::string Table() const;

  int made() const { return made_; }
  int found() const { return found_; }
  int harmless() const { return harmless_; }
  // Kinds of which no plan offered a mutant.
  std::string NeverMade() const;

 private:
  struct Kind {
    int made = 0, found = 0;
    std::map<std::string, int> by_check;
  };
  mutable std::mutex mutex_;
  std::map<Damage, Kind> kinds_;
  int made_ = 0, found_ = 0, plans_ = 0, harmless_ = 0;
};

}  // namespace millrace

#endif  // MILLRACE_GRAPH_VERIFY_TESTING_MUTATION_TALLY_H_
