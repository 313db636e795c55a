// What is probed on the meta device is what runs: the same allocations in the same order, and at their
// planned places the same bits as with malloc.
#include "models/probe.h"

#include <ATen/Parallel.h>
#include <c10/core/AutogradState.h>
#include <sys/resource.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <chrono>
#include <ostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "models/allocator.h"
#include "models/meta_kernels.h"
#include "models/op_counter.h"
#include "models/planned_step.h"
#include "models/stage_run.h"
#include "models/tensors.h"

namespace millrace {
namespace {

struct Case {
  std::string model;
  Attrs args;
  int64_t batch;
  int threads;
  DType dtype = DType::kF32;
};
std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.model << " batch " << c.batch << " threads " << c.threads << " " << Name(c.dtype);
}

// Every preset, made small, but with its ratios of patch, heads and sequence. The long ones reach the
// attention kernel's other block sizes: 192 queries, 768 queries, 512 keys.
std::vector<Case> Cases() {
  const Attrs narrow{{"hidden_size", int64_t{48}}, {"layers", int64_t{2}}, {"heads", int64_t{3}}};
  Attrs base = narrow, huge = narrow, longest = narrow;
  base["image_size"] = int64_t{224};
  huge["image_size"] = int64_t{56};
  huge["heads"] = int64_t{4};
  longest["image_size"] = int64_t{112}, longest["patch_size"] = int64_t{4};
  const Attrs smooth{{"label_smoothing", 0.1}, {"qkv_bias", false}};
  std::vector<Case> cases;
  for (const int threads : {1, 2}) {
    for (const int64_t batch :
         threads == 1 ? std::vector<int64_t>{1, 3, 8} : std::vector<int64_t>{3}) {
      cases.push_back({"digits_vit", {}, batch, threads});
      cases.push_back({"digits_vit", smooth, batch, threads});
      cases.push_back({"vit_tiny", narrow, batch, threads});
      cases.push_back({"vit_small", narrow, batch, threads});
    }
    cases.push_back({"vit_base", base, 2, threads});
    cases.push_back({"vit_huge", huge, 2, threads});
    cases.push_back({"vit", longest, 1, threads});
    cases.push_back({"vit_tiny", {{"layers", int64_t{1}}}, 8, threads});
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      cases.push_back({"digits_vit", {}, threads == 1 ? 1 : 3, threads, dtype});
      cases.push_back({"digits_vit", smooth, 8, threads, dtype});
      cases.push_back({"vit_base", base, 2, threads, dtype});
    }
  }
  return cases;
}

class ProbeTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    InstallAllocators();
    at::set_num_threads(GetParam().threads);
  }
  void TearDown() override { at::set_num_threads(1); }
};

// Evaluation, forward and backward of one stage; the traces one after the other.
std::vector<AllocationEvent> Trace(const ModelDef& model, size_t index, at::Device device) {
  const StageDef& stage = model.stages[index];
  const auto make = [device](const auto& spec) {
    return EmptyTensor(spec, device).fill_(spec.dtype == DType::kI64 ? 1 : 0.125);
  };
  Tensors inputs, params, grads;
  for (const TensorSpec& t : stage.inputs) inputs.push_back(make(t));
  for (int b : stage.batch) inputs.push_back(make(model.batch[b]));
  for (const ParamSpec& p : stage.params) params.push_back(make(p));
  if (index + 1 < model.stages.size()) {
    for (const TensorSpec& t : stage.outputs) grads.push_back(make(t));
  }
  Recording recording;
  const StageOptions train{.train = true};
  EXPECT_TRUE(StageForward(stage, inputs, params, {.train = false}).ok());
  auto tape = StageForward(stage, inputs, params, train);
  EXPECT_TRUE(tape.ok()) << tape.status();
  if (!tape.ok()) return {};
  auto g = StageBackward(*std::move(tape), grads, 0.5);
  EXPECT_TRUE(g.ok()) << g.status();
  return recording.events();
}

TEST_P(ProbeTest, TheMetaDeviceMakesTheAllocationsOfTheCpu) {
  const Case& c = GetParam();
  auto model = BuildModel(c.model, c.args, {.micro_batch = c.batch});
  ASSERT_TRUE(model.ok()) << model.status();
  SetDType(c.dtype, &*model);
  const MetaThreads threads(c.threads);
  for (const size_t i : {size_t{0}, size_t{1}, model->stages.size() - 1}) {
    const StageDef& stage = model->stages[i];
    const auto meta = Trace(*model, i, at::kMeta);
    const auto cpu = Trace(*model, i, at::kCPU);
    for (size_t k = 0; k < std::min(meta.size(), cpu.size()); ++k) {
      ASSERT_TRUE(meta[k] == cpu[k]) << stage.name << ", event " << k << ": " << meta[k].bytes
                                     << " bytes on meta, " << cpu[k].bytes << " on the CPU";
    }
    ASSERT_EQ(meta.size(), cpu.size()) << stage.name;
  }
}

void ExpectSameBits(const StepResult& a, const StepResult& b) {
  ASSERT_EQ(a.outputs.size(), b.outputs.size());
  for (size_t i = 0; i < a.outputs.size(); ++i) EXPECT_TRUE(a.outputs[i].equal(b.outputs[i]));
  ASSERT_EQ(a.param_grads.size(), b.param_grads.size());
  for (size_t i = 0; i < a.param_grads.size(); ++i) {
    for (size_t k = 0; k < a.param_grads[i].size(); ++k) {
      EXPECT_TRUE(a.param_grads[i][k].equal(b.param_grads[i][k])) << "stage " << i << " " << k;
    }
  }
}

TEST_P(ProbeTest, APlannedStepGivesTheBitsOfAPlainOneInsideItsPlan) {
  const Case& c = GetParam();
  auto step = PlannedStep::Create(c.model, c.args, c.batch, c.threads, c.dtype);
  ASSERT_TRUE(step.ok()) << step.status();
  auto plain = (*step)->RunPlain();
  ASSERT_TRUE(plain.ok()) << plain.status();
  for (int repeat = 0; repeat < 2; ++repeat) {
    auto planned = (*step)->RunPlanned();
    ASSERT_TRUE(planned.ok()) << planned.status();
    EXPECT_EQ(planned->mismatches, 0);
    // Of a single image, the gradients of the class token and the positions are parts of the incoming one; in 16 bits
    // each is rounded, and has a place of its own.
    EXPECT_EQ(planned->copies, c.batch == 1 && c.dtype == DType::kF32 ? 2 : 0);
    EXPECT_TRUE(planned->guards_intact);
    ExpectSameBits(*planned, *plain);
  }
  auto evaluated = (*step)->EvaluatePlain();
  ASSERT_TRUE(evaluated.ok()) << evaluated.status();
  auto planned = (*step)->EvaluatePlanned();
  ASSERT_TRUE(planned.ok()) << planned.status();
  EXPECT_EQ(planned->mismatches, 0);
  EXPECT_EQ(planned->copies, 0);
  EXPECT_TRUE(planned->guards_intact);
  ExpectSameBits(*planned, *evaluated);
}

bool SamePlan(const AllocationPlan& a, const AllocationPlan& b) {
  const auto same = [](const Placement& x, const Placement& y) {
    return x.region == y.region && x.index == y.index && x.offset == y.offset && x.bytes == y.bytes;
  };
  return a.workspace_bytes == b.workspace_bytes &&
         std::equal(a.allocations.begin(), a.allocations.end(), b.allocations.begin(),
                    b.allocations.end(), same);
}

// As on a GPU, with the CPU for the device: the way is the same, and here the answer is known.
TEST_P(ProbeTest, ProbedForRealOnTheDeviceThePlanIsTheSame) {
  const Case& c = GetParam();
  auto model = BuildModel(c.model, c.args, {.micro_batch = c.batch});
  ASSERT_TRUE(model.ok()) << model.status();
  SetDType(c.dtype, &*model);
  const auto meta = Probe(*model, {.threads = c.threads});
  const auto real = Probe(*model, {.threads = c.threads, .target = c10::kCPU, .run = true});
  ASSERT_TRUE(meta.ok()) << meta.status();
  ASSERT_TRUE(real.ok()) << real.status();
  for (size_t i = 0; i < meta->stages.size(); ++i) {
    const StageSpec &a = meta->stages[i], &b = real->stages[i];
    EXPECT_EQ(a.saved_bytes, b.saved_bytes) << a.name;
    EXPECT_EQ(a.forward_flops, b.forward_flops) << a.name;
    EXPECT_TRUE(SamePlan(a.forward, b.forward)) << a.name;
    EXPECT_TRUE(SamePlan(a.backward, b.backward)) << a.name;
    EXPECT_TRUE(SamePlan(a.evaluate, b.evaluate)) << a.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Presets, ProbeTest, testing::ValuesIn(Cases()));

// No two live blocks overlap, blocks stay inside their region, sizes are those of the tensors.
TEST(Probe, PlansStayInsideTheirRegions) {
  const auto spec = Probe(*BuildModel("vit_tiny", {}, {.micro_batch = 8}));
  ASSERT_TRUE(spec.ok()) << spec.status();
  for (const StageSpec& s : spec->stages) {
    for (const AllocationPlan* plan : {&s.forward, &s.backward, &s.evaluate}) {
      EXPECT_FALSE(plan->allocations.empty());
      EXPECT_EQ(plan->workspace_bytes % 64, 0);
      for (const Placement& p : plan->allocations) {
        EXPECT_EQ(p.offset % 64, 0);
        if (p.region == Placement::Region::kWorkspace) {
          EXPECT_LE(p.offset + p.bytes, plan->workspace_bytes);
        } else if (p.region == Placement::Region::kSaved) {
          EXPECT_LE(p.offset + p.bytes, s.saved_bytes);
        } else if (p.region == Placement::Region::kParamGrad) {
          EXPECT_EQ(p.bytes, s.params[p.index].numel() * 4);
        }
      }
    }
    EXPECT_EQ(s.saved_bytes % 64, 0);
  }
}

TEST(Probe, EveryOutputAndGradientIsWrittenInPlace) {
  const auto spec = Probe(*BuildModel("vit_tiny", {}, {.micro_batch = 8}));
  ASSERT_TRUE(spec.ok()) << spec.status();
  for (const StageSpec& s : spec->stages) {
    const auto count = [](const AllocationPlan& plan, Placement::Region region) {
      return static_cast<size_t>(
          std::count_if(plan.allocations.begin(), plan.allocations.end(),
                        [region](const Placement& p) { return p.region == region; }));
    };
    EXPECT_EQ(count(s.forward, Placement::Region::kOutput), s.outputs.size()) << s.name;
    EXPECT_EQ(count(s.evaluate, Placement::Region::kOutput), s.outputs.size()) << s.name;
    EXPECT_EQ(count(s.backward, Placement::Region::kParamGrad), s.params.size()) << s.name;
    EXPECT_EQ(count(s.backward, Placement::Region::kInputGrad), s.inputs.size());
  }
}

TEST(Probe, FlopsAreSixTimesTheMultiplyAddsOfThePaper) {
  for (const auto& [name, giga] : {std::pair{"vit_base", 105.5}, {"vit_huge", 1004.0}}) {
    const auto spec = Probe(*BuildModel(name, {}, {.micro_batch = 2}));
    ASSERT_TRUE(spec.ok()) << spec.status();
    double flops = 0;
    for (const StageSpec& s : spec->stages) {
      flops += static_cast<double>(s.forward_flops + s.backward_flops);
      EXPECT_GT(s.forward_bytes, 0);
      EXPECT_GT(s.backward_bytes, 0);
    }
    EXPECT_NEAR(flops / 2e9, giga, 0.005 * giga) << name;
  }
}

int64_t PeakRssKib() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

TEST(Probe, HugeIsProbedInAMomentAndAllocatesNothing) {
  (void)Probe(*BuildModel("digits_vit", {}, {.micro_batch = 1}));  // LibTorch's own tables
  const int64_t before = PeakRssKib();
  const AllocatorStats stats = CpuAllocatorStats();
  ResetAllocatorPeak();
  const auto start = std::chrono::steady_clock::now();
  const auto spec = Probe(*BuildModel("vit_huge", {}, {.micro_batch = 8}));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->parameter_count(), 630894181);
  EXPECT_EQ(spec->stages.size(), 34u);
  EXPECT_LT(seconds.count(), 2);
  EXPECT_LT(PeakRssKib() - before, 4096);
  // A few scalars that LibTorch keeps on the CPU whatever the device.
  EXPECT_LT(CpuAllocatorStats().peak_bytes - stats.live_bytes, 1024);
}

TEST(Probe, StagesThatDoNotGiveWhatTheyDeclareAreNamed) {
  ModelDef model = *BuildModel("digits_vit", {}, {.micro_batch = 2});
  model.stages[1].outputs[0].shape = {1, 2, 3};
  const auto spec = Probe(model);
  ASSERT_FALSE(spec.ok());
  EXPECT_NE(spec.status().message().find("stage 'layers.0', output 'hidden'"), std::string::npos)
      << spec.status();
}

// y = tanh(x) is both given to the next stage and read by backward.
TEST(Probe, AnOutputThatBackwardReadsIsSavedAndCopied) {
  StageDef stage;
  stage.name = stage.class_key = "tanh";
  stage.inputs = stage.outputs = {{"x", DType::kF32, {16}}};
  stage.forward = [](const Tensors& in, const Tensors&) -> Tensors { return {in[0].tanh()}; };
  ModelDef model;
  model.name = "two";
  model.batch = stage.inputs;
  StageDef loss = stage;
  loss.name = loss.class_key = "loss";
  loss.outputs = {{"loss", DType::kF32, {}}};
  loss.sources = {{1, 0}};
  loss.forward = [](const Tensors& in, const Tensors&) -> Tensors { return {in[0].sum()}; };
  model.stages = {stage, stage, loss};
  model.stages[0].inputs.clear();
  model.stages[0].batch = {0};
  model.stages[1].sources = {{0, 0}};
  const auto spec = Probe(model);
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->stages[1].saved_bytes, 64);
  ASSERT_EQ(spec->stages[1].forward.allocations.size(), 1u);
  EXPECT_EQ(spec->stages[1].forward.allocations[0].region, Placement::Region::kSaved);
  EXPECT_EQ(spec->stages[1].evaluate.allocations[0].region, Placement::Region::kOutput);
}

// Its two sides are seen by autograd; nodes of a device would be another thread's if several were allowed.
struct WhereAmI : torch::autograd::Function<WhereAmI> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x) {
    return x.clone();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list grads) {
    thread = std::this_thread::get_id();
    alone = !c10::AutogradState::get_tls_state().get_multithreading_enabled();
    return grads;
  }
  static inline std::thread::id thread;
  static inline bool alone = false;
};

TEST(StageRun, BackwardStaysOnTheCallingThread) {
  StageDef stage;
  stage.name = stage.class_key = "where";
  stage.inputs = stage.outputs = {{"x", DType::kF32, {16}}};
  stage.forward = [](const Tensors& in, const Tensors&) -> Tensors {
    return {WhereAmI::apply(in[0])};
  };
  std::thread([&] {  // not the one that used autograd first
    ASSERT_TRUE(c10::AutogradState::get_tls_state().get_multithreading_enabled());
    const at::Tensor x = at::empty({16}).fill_(1);
    auto tape = StageForward(stage, {x}, {}, {.train = true});
    ASSERT_TRUE(tape.ok()) << tape.status();
    ASSERT_TRUE(StageBackward(*std::move(tape), {x}, 1).ok());
    EXPECT_EQ(WhereAmI::thread, std::this_thread::get_id());
    EXPECT_TRUE(WhereAmI::alone);
    EXPECT_TRUE(c10::AutogradState::get_tls_state().get_multithreading_enabled());
  })
      .join();
}

// Parameters, boundary tensors and what is kept for backward have half the bytes; the embeddings and the head, small,
// keep what they keep in f32.
TEST(Probe, SixteenBitsHalveWhatLayersKeep) {
  ModelDef half = *BuildModel("vit_tiny", {}, {.micro_batch = 8});
  SetDType(DType::kBF16, &half);
  const auto narrow = Probe(half), wide = Probe(*BuildModel("vit_tiny", {}, {.micro_batch = 8}));
  ASSERT_TRUE(narrow.ok()) << narrow.status();
  const StageSpec &a = narrow->stages[1], &b = wide->stages[1];
  EXPECT_EQ(2 * a.outputs[0].bytes(), b.outputs[0].bytes());
  EXPECT_NEAR(static_cast<double>(a.saved_bytes) / static_cast<double>(b.saved_bytes), 0.5, 0.02);
  EXPECT_EQ(a.forward_flops, b.forward_flops);
  EXPECT_EQ(a.backward_flops, b.backward_flops);
  EXPECT_EQ(narrow->stages.back().outputs[0].dtype, DType::kF32);
}

TEST(OpCounter, CountsProductsAndTraffic) {
  InstallAllocators();
  const at::Tensor a = at::empty({2, 3}, at::kMeta), b = at::empty({3, 5}, at::kMeta);
  OpCounter counter;
  a.mm(b).t().contiguous();
  EXPECT_EQ(counter.flops(), 2 * 2 * 3 * 5);
  EXPECT_EQ(counter.bytes(), 4 * (6 + 15 + 10) + 3 * 4 * 10);  // and copy_(to, from) -> to
  EXPECT_EQ(counter.operators(), 2);
  const int64_t before = counter.bytes();
  a.to(at::kHalf);  // moves bytes, but is no operator of the roofline's kind
  EXPECT_EQ(counter.bytes() - before, 6 * 4 + 6 * 2);
  EXPECT_EQ(counter.operators(), 2);
}

}  // namespace
}  // namespace millrace
