// The nodes of an optimizer's step as CUDA kernels - their ports, tables, step slots and launches - against the CPU's
// nodes, bit for bit. The kernels are emulated and the runtime is the fake, so no GPU is needed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "graph/base/loss_scale.h"
#include "graph/ir/loss_scale_attrs.h"
#include "graph/runtime/buffers.h"
#include "ops/cuda/cuda_device.h"
#include "ops/cuda/device_table.h"
#include "ops/cuda/fake_cudart.h"
#include "ops/exact_norm.h"
#include "ops/kernel_registry.h"

namespace millrace {
namespace {

constexpr int64_t kElements = 20000;  // of a parameter: three chunks

// A plan of one rank, node by node; every value in a buffer of its own but for what is updated in place.
class Sketch {
 public:
  ValueId New(const std::string& name, DType dtype, std::vector<int64_t> shape) {
    Value v;
    v.name = name;
    v.dtype = dtype;
    v.shape = std::move(shape);
    return builder_.AddValueWithBuffer(v, BufferKind::kOptimizerState, /*persistent=*/true);
  }
  ValueId Again(ValueId of) {
    Value v = builder_.value(of);
    v.name += "'";
    return builder_.AddValue(v);
  }
  void Add(const std::string& op, const std::string& name, std::vector<ValueId> inputs,
           std::vector<ValueId> outputs, Attrs attrs = {}) {
    Node node;
    node.name = name;
    node.op = op;
    node.inputs = std::move(inputs);
    node.outputs = std::move(outputs);
    node.attrs = std::move(attrs);
    order_.push_back(builder_.AddNode(std::move(node)));
  }
  Plan Build() && {
    Plan plan;
    plan.name = "sketch";
    plan.world_size = 1;
    auto graph = std::move(builder_).Build();
    EXPECT_TRUE(graph.ok()) << graph.status();
    plan.graph = *std::move(graph);
    RankPlan rank;
    rank.ranks = {0};
    rank.lanes.push_back({"compute", LaneKind::kCompute, order_});
    for (const Buffer& b : plan.graph.buffers()) {
      int64_t& at = rank.arena_bytes[static_cast<int>(b.tier)];
      rank.offset.push_back(at);
      at += (b.bytes + 63) / 64 * 64;
    }
    plan.rank_plans.push_back(std::move(rank));
    return plan;
  }

 private:
  GraphBuilder builder_{"sketch"};
  std::vector<NodeId> order_;
};

// A whole step with a loss scale: gradients of two micro-batches are added, their norm clips, AdamW and SGD update.
Plan StepPlan(DType grad, bool momentum) {
  Sketch s;
  const LossScaleOptions scale{.initial = 1024, .window = 2};
  const ValueId total = s.New("grad", grad, {kElements}),
                addend = s.New("grad1", grad, {kElements});
  const ValueId sum = s.Again(total);
  s.Add("accumulate", "accumulate", {total, addend}, {sum});
  const ValueId words = s.New("words", DType::kI64, {NormPartial::kWords});
  const ValueId words1 = s.New("words1", DType::kI64, {NormPartial::kWords});
  s.Add("grad_norm", "grad_norm", {sum}, {words});
  s.Add("grad_norm", "grad_norm1", {addend}, {words1});
  const ValueId all = s.New("all", DType::kI64, {NormPartial::kWords});
  s.Add("norm_sum", "norm_sum", {words, words1}, {all});
  const ValueId state = s.New("scale", DType::kF64, {kLossScaleWords});
  const ValueId clip = s.New("clip", DType::kF32, {3});
  s.Add("clip_coefficient", "clip", {all, state}, {clip}, {{"max_norm", 0.5}});
  const ValueId p = s.New("p", DType::kF32, {kElements}), m = s.New("m", DType::kF32, {kElements});
  const ValueId v = s.New("v", DType::kF32, {kElements});
  const ValueId copy = s.New("copy", DType::kBF16, {kElements});
  s.Add("adamw", "adamw", {p, sum, m, v, clip}, {s.Again(p), s.Again(m), s.Again(v), copy});
  const ValueId q = s.New("q", DType::kF32, {kElements}), b = s.New("b", DType::kF32, {kElements});
  if (momentum) {
    s.Add("sgd", "sgd", {q, sum, b, clip}, {s.Again(q), s.Again(b)}, {{"delay", int64_t{1}}});
  } else {
    s.Add("sgd", "sgd", {q, sum, clip}, {s.Again(q)}, {{"momentum", 0.0}});
  }
  const ValueId half = s.New("half", DType::kF16, {kElements});
  s.Add("cast", "cast", {addend}, {half});
  s.Add("update_loss_scale", "scale", {clip, state}, {s.Again(state)}, LossScaleAttrs(scale));
  return std::move(s).Build();
}

uint16_t Narrow16(DType type, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (type == DType::kBF16) return static_cast<uint16_t>(bits >> 16);
  // f16 of a number that is not small: sign, exponent, ten bits.
  if (std::isinf(x)) return 0x7c00;
  const int exponent = static_cast<int>(bits >> 23 & 0xff) - 127 + 15;
  return static_cast<uint16_t>((bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 0x3ff));
}

// Random numbers of about 0.01 for all values but the loss scale.
std::vector<char> Random(std::mt19937_64& random, const Value& value, bool overflow) {
  std::vector<char> bytes(value.bytes());
  for (int64_t i = 0; i < value.numel(); ++i) {
    float x = 0.005f + static_cast<float>(random() % 10000) * 1e-6f;
    if (random() % 2 == 0 && value.name != "v") x = -x;
    if (overflow && i == value.numel() / 2) x = std::numeric_limits<float>::infinity();
    if (SizeOf(value.dtype) == 2) {
      const uint16_t narrow = Narrow16(value.dtype, x);
      std::memcpy(&bytes[i * 2], &narrow, 2);
    } else if (value.dtype == DType::kF32) {
      std::memcpy(&bytes[i * 4], &x, 4);
    }
  }
  return bytes;
}

struct Side {
  Side(const Plan& plan, std::shared_ptr<CudaDevice> device) : device(device) {
    RankArenas::Options options;
    options.device = device;
    auto arenas = RankArenas::Allocate({&plan}, 0, options);
    EXPECT_TRUE(arenas.ok()) << arenas.status();
    auto made = RankBuffers::Create(plan, 0, *arenas);
    EXPECT_TRUE(made.ok()) << made.status();
    buffers = std::make_unique<RankBuffers>(*std::move(made));
    context.device = device.get();
    auto all = MakeKernels(plan, 0, *buffers, RegistryFactory(&context));
    EXPECT_TRUE(all.ok()) << all.status();
    kernels = *std::move(all);
    if (device == nullptr) return;
    compute = *device->NewStream("compute");
    begun = *device->NewEvent();
  }
  // Kernels that are emulated run where they are issued, so the step's slots have to have arrived.
  void Run(const Plan& plan, const StepContext& step) {
    const std::vector<NodeId>& order = plan.rank_plans[0].lanes[0].order;
    if (device != nullptr) {
      for (NodeId n : order) ASSERT_EQ(kernels.by_node[n]->BeginStep(step), absl::OkStatus());
      ASSERT_EQ(device->BeginIssue(), absl::OkStatus());
      ASSERT_EQ(device->Record(compute, begun), absl::OkStatus());
      while (!*device->Reached(begun)) std::this_thread::yield();
    }
    for (NodeId n : order) {
      Kernel& kernel = *kernels.by_node[n];
      const absl::Status status = device == nullptr
                                      ? kernel.Run(step)
                                      : kernel.Issue(step, DeviceStream{device.get(), compute});
      ASSERT_EQ(status, absl::OkStatus()) << plan.graph.nodes()[n].name;
      EXPECT_TRUE(device == nullptr || kernel.capturable()) << plan.graph.nodes()[n].name;
    }
  }
  std::vector<char> Bytes(const Plan& plan, ValueId v) const {
    std::vector<char> bytes(plan.graph.values()[v].bytes());
    EXPECT_EQ(buffers->Read(v, bytes.data()), absl::OkStatus());
    return bytes;
  }

  std::shared_ptr<CudaDevice> device;
  RankContext context;
  std::unique_ptr<RankBuffers> buffers;
  RankKernels kernels;
  StreamId compute = -1;
  EventId begun = -1;
};

TEST(NodeKernelsTest, AStepOnTheDeviceHasTheBitsOfTheCpuOverflowsIncluded) {
  for (const DType grad : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const bool momentum : {false, true}) {
      const Plan plan = StepPlan(grad, momentum);
      FakeCudart::Get().Start({.seed = 1});
      {
        Side cpu(plan, nullptr), gpu(plan, *CudaDevice::Open(0));
        EXPECT_GT(DeviceTableBytes(), 0);
        std::mt19937_64 random(7);
        const LossScaleState start = StartOf({.initial = 1024});
        for (ValueId v = 0; v < static_cast<ValueId>(plan.graph.values().size()); ++v) {
          const Value& value = plan.graph.values()[v];
          std::vector<char> bytes = Random(random, value, false);
          if (value.name == "scale") std::memcpy(bytes.data(), &start, sizeof(start));
          if (value.name.back() == '\'') continue;
          for (const Side* side : {&cpu, &gpu}) {
            ASSERT_EQ(side->buffers->Write(v, bytes.data()), absl::OkStatus());
          }
        }
        for (int64_t step = 1; step <= 5; ++step) {
          for (const char* name : {"grad", "grad1"}) {
            const ValueId v = plan.graph.FindValue(name);
            const std::vector<char> bytes = Random(random, plan.graph.values()[v], step == 3);
            for (const Side* side : {&cpu, &gpu}) {
              ASSERT_EQ(side->buffers->Write(v, bytes.data()), absl::OkStatus());
            }
          }
          const StepScalars scalars{.lr = 0.01 * static_cast<double>(step), .update = step};
          const std::vector<char> before = gpu.Bytes(plan, plan.graph.FindValue("p"));
          cpu.Run(plan, {step, &scalars});
          gpu.Run(plan, {step, &scalars});
          for (ValueId v = 0; v < static_cast<ValueId>(plan.graph.values().size()); ++v) {
            ASSERT_EQ(cpu.Bytes(plan, v), gpu.Bytes(plan, v))
                << plan.graph.values()[v].name << ", step " << step << ", gradients of "
                << Name(grad);
          }
          // The overflow is skipped, every other step moves the parameters.
          EXPECT_EQ(before == gpu.Bytes(plan, plan.graph.FindValue("p")), step == 3);
        }
      }
      EXPECT_EQ(DeviceTableBytes(), 0);
      EXPECT_EQ(FakeCudart::Get().alive(), 0);
      EXPECT_EQ(FakeCudart::Get().misuse(), "");
    }
  }
}

TEST(NodeKernelsTest, OperationsWithoutAKernelOfTheDeviceAreAllNamedInOneError) {
  FakeCudart::Get().Start({.seed = 1});
  Sketch s;
  const ValueId a = s.New("a", DType::kF32, {4}), b = s.New("b", DType::kF32, {4});
  s.Add("no_such_op", "first", {a}, {b});
  s.Add("nor_this", "second", {b}, {s.Again(a)});
  const Plan plan = std::move(s).Build();
  RankContext context;
  const std::shared_ptr<CudaDevice> device = *CudaDevice::Open(0);
  context.device = device.get();
  const auto buffers = RankBuffers::Create(plan, 0);
  ASSERT_TRUE(buffers.ok());
  const auto kernels = MakeKernels(plan, 0, *buffers, RegistryFactory(&context));
  EXPECT_THAT(std::string(kernels.status().message()),
              testing::AllOf(testing::HasSubstr("'no_such_op' of device cuda"),
                             testing::HasSubstr("'nor_this' of device cuda")));
}

}  // namespace
}  // namespace millrace
