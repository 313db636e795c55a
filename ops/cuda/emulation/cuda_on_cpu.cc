#include "ops/cuda/emulation/cuda_on_cpu.h"

#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

// Saves the registers that a call keeps, and the stack; loads another fiber's.
#if defined(__x86_64__)
extern "C" void millrace_switch_fiber(void** save, void* load);
asm(R"(
.text
.type millrace_switch_fiber, @function
millrace_switch_fiber:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size millrace_switch_fiber, .-millrace_switch_fiber
)");
#endif

namespace millrace {
namespace emulation {
namespace {

constexpr size_t kStackBytes = 64 * 1024, kGuard = 64;
constexpr unsigned char kPoison = 0xff;  // NaNs

class Context {
 public:
#if defined(__x86_64__)
  void Start(void (*entry)()) {
    if (stack_ == nullptr) stack_.reset(new char[kStackBytes]);
    const auto top = reinterpret_cast<uintptr_t>(stack_.get() + kStackBytes) / 16 * 16;
    auto* words = reinterpret_cast<uint64_t*>(top) - 8;  // six registers, where to go, no caller
    std::fill_n(words, 8, 0);
    words[6] = reinterpret_cast<uint64_t>(entry);
    at_ = words;
  }
  void SwitchTo(Context* to) { millrace_switch_fiber(&at_, to->at_); }

 private:
  void* at_ = nullptr;
#else
  void Start(void (*entry)()) {
    if (stack_ == nullptr) stack_.reset(new char[kStackBytes]);
    getcontext(&at_);
    at_.uc_stack.ss_sp = stack_.get(), at_.uc_stack.ss_size = kStackBytes;
    makecontext(&at_, entry, 0);
  }
  void SwitchTo(Context* to) { swapcontext(&at_, &to->at_); }

 private:
  ucontext_t at_;
#endif
  std::unique_ptr<char[]> stack_;
};

enum class State { kReady, kBarrier, kWarp, kDone };

struct Fiber {
  Context context;
  uint3 index;
  State state = State::kDone;
  int line = 0;  // of the barrier
  // What it brought to its warp, and takes from there.
  unsigned mask = 0, source = 0, ballot = 0;
  uint64_t value = 0, result = 0;
};

struct Array {
  const void* id;
  size_t begin, bytes;
};

struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<unsigned> arrived;  // by warp: lanes that wait
  Context scheduler;
  size_t current = 0, threads = 0;
  const std::function<void()>* thread = nullptr;
  std::vector<unsigned char> shared;
  std::vector<Array> arrays;
  size_t shared_used = 0;
  uint64_t seed = 0, draws = 0;
  std::string error, returned;

  uint64_t Draw(uint64_t below) {  // splitmix64
    uint64_t z = seed + 0x9e3779b97f4a7c15u * ++draws;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % below;
  }
  void Shuffle(std::vector<size_t>* order) {
    for (size_t i = order->size(); seed != 0 && i > 1; --i)
      std::swap((*order)[i - 1], (*order)[Draw(i)]);
  }
};

Machine& M() {
  static auto* machine = new Machine;
  return *machine;
}
Fiber& Me() { return *M().fibers[M().current]; }

// noinline: what a fiber knows of threadIdx is read again after others have run.
__attribute__((noinline)) void Leave(State state) {
  Fiber& me = Me();
  me.state = state;
  me.context.SwitchTo(&M().scheduler);
}

void Loop() {
  for (;;) {
    (*M().thread)();
    Leave(State::kDone);
  }
}

std::string Where(size_t thread) {
  const Fiber& f = *M().fibers[thread];
  const std::string name = "thread " + std::to_string(thread) + " of block " +
                           std::to_string(blockIdx.x) + "," + std::to_string(blockIdx.y);
  if (f.state == State::kDone) return name + " has ended";
  if (f.state == State::kBarrier) return name + " waits at line " + std::to_string(f.line);
  return name + " waits for lanes of its warp";
}

// Nobody is ready: all wait at one barrier, or something is wrong.
void PassBarrier() {
  Machine& m = M();
  size_t waits = 0;
  while (m.fibers[waits]->state == State::kDone) ++waits;
  for (size_t t = 0; t < m.threads; ++t) {
    const Fiber &a = *m.fibers[waits], &b = *m.fibers[t];
    if (a.state != State::kBarrier || b.state != State::kBarrier || a.line != b.line) {
      if (t != waits) m.error = Where(waits) + ", " + Where(t);
      if (t != waits) return;
    }
  }
  if (m.fibers[waits]->state != State::kBarrier) {
    m.error = Where(waits);  // a block of one thread
    return;
  }
  for (size_t t = 0; t < m.threads; ++t) m.fibers[t]->state = State::kReady;
}

void RunBlock() {
  Machine& m = M();
  std::memset(m.shared.data(), kPoison, m.shared_used);
  std::fill(m.arrived.begin(), m.arrived.end(), 0);
  std::vector<size_t> order(m.threads);
  std::iota(order.begin(), order.end(), 0);
  for (size_t t = 0; t < m.threads; ++t) m.fibers[t]->state = State::kReady;
  for (size_t left = m.threads; left > 0 && m.error.empty();) {
    bool ran = false;
    m.Shuffle(&order);
    for (const size_t t : order) {
      if (m.fibers[t]->state != State::kReady || !m.error.empty()) continue;
      ran = true;
      m.current = t;
      threadIdx = m.fibers[t]->index;
      m.scheduler.SwitchTo(&m.fibers[t]->context);
      left -= m.fibers[t]->state == State::kDone;
    }
    if (!ran && m.error.empty()) PassBarrier();
  }
  for (const Array& a : m.arrays) {
    for (size_t i = a.begin + a.bytes; m.error.empty() && i < a.begin + a.bytes + kGuard; ++i) {
      if (m.shared[i] != kPoison) m.error = "shared memory is written behind an array's end";
    }
  }
}

size_t Take(size_t bytes) {
  Machine& m = M();
  const size_t begin = m.shared_used;
  m.shared_used += (bytes + kGuard + 15) / 16 * 16 + kGuard;
  if (m.shared_used > m.shared.size()) Fail("more shared memory than a block may have");
  return begin;
}

}  // namespace

void SetOrder(uint64_t seed) { M().seed = seed; }

void RunGrid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread) {
  Machine& m = M();
  m.threads = size_t{block.x} * block.y * block.z;
  const size_t blocks = size_t{grid.x} * grid.y * grid.z;
  if (m.threads == 0 || m.threads > 1024 || blocks == 0 || shared_bytes > 227 * 1024) {
    m.error = "invalid configuration argument";
    return;
  }
  m.thread = &thread;
  m.arrived.assign((m.threads + 31) / 32, 0);
  m.shared.assign(256 * 1024, kPoison);
  m.arrays.clear();
  m.shared_used = 0;
  m.arrays.push_back({nullptr, Take(shared_bytes), shared_bytes});
  while (m.fibers.size() < m.threads) m.fibers.push_back(std::make_unique<Fiber>());
  for (size_t t = 0; t < m.threads; ++t) {
    m.fibers[t]->context.Start(&Loop);
    const auto i = static_cast<unsigned>(t);
    m.fibers[t]->index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
  }
  blockDim = block, gridDim = grid;
  std::vector<size_t> order(blocks);
  std::iota(order.begin(), order.end(), 0);
  m.Shuffle(&order);
  for (const size_t b : order) {
    const auto i = static_cast<unsigned>(b);
    blockIdx = {i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y};
    if (m.error.empty()) RunBlock();
  }
}

void Barrier(int line) {
  Me().line = line;
  Leave(State::kBarrier);
}

void AtomicPoint() {
  if (M().seed != 0 && M().Draw(4) == 0) Leave(State::kReady);
}

void Fail(const char* why) {
  M().error = why;
  for (;;) Leave(State::kDone);  // never resumed: the launch is over
}

void* Shared(const void* id, size_t bytes) {
  Machine& m = M();
  for (const Array& a : m.arrays) {
    if (a.id == id) return m.shared.data() + a.begin;
  }
  m.arrays.push_back({id, Take(bytes), bytes});
  return m.shared.data() + m.arrays.back().begin;
}

void* Dynamic() { return M().shared.data(); }

uint64_t Meet(unsigned mask, uint64_t value, unsigned source, unsigned* ballot) {
  Machine& m = M();
  Fiber& me = Me();
  const size_t warp = m.current / 32;
  const auto lane = static_cast<unsigned>(m.current % 32);
  if ((mask >> lane & 1) == 0) Fail("a lane is not in its own mask");
  if ((mask >> source % 32 & 1) == 0) Fail("a lane reads from one that is not in the mask");
  me.mask = mask, me.source = source % 32, me.value = value;
  m.arrived[warp] |= 1u << lane;
  if ((m.arrived[warp] & mask) != mask) {
    Leave(State::kWarp);
  } else {  // the last one: all go on
    unsigned set = 0;
    for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
      const int l = __builtin_ctz(rest);
      Fiber& other = *m.fibers[warp * 32 + static_cast<size_t>(l)];
      if (other.mask != mask) Fail("lanes of a warp meet with different masks");
      set |= static_cast<unsigned>(other.value != 0) << l;
    }
    for (unsigned rest = mask; rest != 0; rest &= rest - 1) {
      const int l = __builtin_ctz(rest);
      Fiber& other = *m.fibers[warp * 32 + static_cast<size_t>(l)];
      other.result = m.fibers[warp * 32 + other.source]->value;
      other.ballot = set;
      other.state = State::kReady;
    }
    m.arrived[warp] &= ~mask;
  }
  if (ballot != nullptr) *ballot = me.ballot;
  return me.result;
}

}  // namespace emulation

const char* LaunchError() {
  emulation::Machine& m = emulation::M();
  m.returned.swap(m.error);
  m.error.clear();
  return m.returned.empty() ? nullptr : m.returned.c_str();
}

}  // namespace millrace
