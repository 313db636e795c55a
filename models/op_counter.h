// Counts the work of the operators that a thread runs: FLOPs (2 x multiply-adds of matrix products and
// attention; the rest is bandwidth) and bytes (operands read plus results written, each once per operator).
//
//   OpCounter counter;
//   at::Tensor c = at::mm(a, b);
//   counter.flops();               // 2 m k n
//
// The backward of attention counts as twice its forward, as model FLOPs do: recomputing the scores is the
// kernel's own affair. Works on meta tensors. Slows operators down; not for measured runs.
//
// A kernel that is no operator of LibTorch's says itself what it did, by ReportWork, on meta tensors too.
#ifndef MILLRACE_MODELS_OP_COUNTER_H_
#define MILLRACE_MODELS_OP_COUNTER_H_

#include <cstdint>

namespace millrace {

class OpCounter {
 public:
  OpCounter();
  ~OpCounter();
  OpCounter(const OpCounter&) = delete;
  OpCounter& operator=(const OpCounter&) = delete;

  int64_t flops() const { return flops_; }
  int64_t bytes() const { return bytes_; }
  int64_t operators() const { return operators_; }  // those that move bytes, not views

 private:
  friend struct OpCounterHooks;
  friend void ReportWork(int64_t flops, int64_t bytes);
  OpCounter* outer_;
  uint64_t handle_;
  int depth_ = 0;  // inside an operator that is already counted
  int64_t flops_ = 0, bytes_ = 0, operators_ = 0;
};

// One operator of so many FLOPs and bytes, for this thread's innermost counter; without one, nothing.
void ReportWork(int64_t flops, int64_t bytes);

}  // namespace millrace

#endif  // MILLRACE_MODELS_OP_COUNTER_H_
