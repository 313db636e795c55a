#include "models/sparse_attention.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "models/generic.h"
#include "models/layers.h"
#include "models/meta_kernels.h"
#include "models/op_counter.h"
#include "models/sparse_attention_loops.h"

namespace millrace {
namespace {

using layers::Wide;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

SparseKernels Kernels() {
  static const SparseKernels kernels = [] {
#if defined(__x86_64__)
    if (Avx2SparseKernels().forward != nullptr && __builtin_cpu_supports("avx2") &&
        __builtin_cpu_supports("fma")) {
      return Avx2SparseKernels();
    }
#endif
    return PlainSparseKernels();
  }();
  return kernels;
}

// All heads of all samples.
struct Problem {
  SparseShape shape;
  int64_t batch = 1, heads = 1;
  bool reference = false;  // the layout

  int64_t jobs() const { return batch * heads; }
  // Of one product of all queries with their windows.
  int64_t flops() const { return 2 * jobs() * shape.queries() * shape.visible() * shape.width; }
  std::vector<int64_t> Pack() const {
    std::vector<int64_t> v{batch, heads, reference, shape.width};
    for (const auto* axes : {&shape.query, &shape.key, &shape.stride, &shape.window}) {
      v.insert(v.end(), axes->begin(), axes->end());
    }
    return v;
  }
  static Problem Unpack(const std::vector<int64_t>& v) {
    Problem p;
    p.batch = v[0], p.heads = v[1], p.reference = v[2] != 0, p.shape.width = v[3];
    size_t i = 4;
    for (auto* axes : {&p.shape.query, &p.shape.key, &p.shape.stride, &p.shape.window}) {
      for (int64_t& x : *axes) x = v[i++];
    }
    return p;
  }

  // A head of a sample in [B, N, H, d].
  template <typename R, typename T>
  R Head(T* data, int64_t tokens, int64_t job) const {
    const int64_t row = heads * shape.width;
    return {data + job / heads * tokens * row + job % heads * shape.width, row};
  }
  // The same in v's and y's layout.
  template <typename R, typename T>
  R ValueHead(T* data, int64_t tokens, int64_t job) const {
    if (!reference) return Head<R>(data, tokens, job);
    return {data + job * tokens * shape.width, shape.width};
  }
};

// Calls run(tables, job, scratch) for every head on the CPU; with a piece of planned memory for each thread.
template <typename F>
void ForHeads(const Problem& p, int64_t floats, const at::Tensor& like, const F& run) {
  const int64_t threads =
      std::min<int64_t>(p.jobs(), like.is_meta() ? MetaThreads::Current() : at::get_num_threads());
  const at::Tensor scratch = at::empty({threads, floats}, like.options());
  if (like.is_meta()) return;
  const SparseWindow window(p.shape);
  float* data = scratch.mutable_data_ptr<float>();
  at::parallel_for(0, p.jobs(), 1, [&](int64_t begin, int64_t end) {
    float* mine = data + at::get_thread_num() * floats;
    for (int64_t job = begin; job < end; ++job) run(window.tables(), job, mine);
  });
}

void Report(int64_t flops, std::initializer_list<at::Tensor> tensors) {
  int64_t bytes = 0;
  for (const at::Tensor& t : tensors) bytes += static_cast<int64_t>(t.nbytes());
  ReportWork(flops, bytes);
}

struct SparseFunction : Function<SparseFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& q_in, const Variable& k_in,
                          const Variable& v_in, const std::vector<int64_t>& packed, double eps) {
    const Problem p = Problem::Unpack(packed);
    const int64_t queries = p.shape.queries(), keys = p.shape.keys();
    const at::Tensor q = Wide(q_in).contiguous(), k = Wide(k_in).contiguous(),
                     v = Wide(v_in).contiguous();
    const at::Tensor y = at::empty({p.batch, queries, p.heads * p.shape.width}, q.options());
    const at::Tensor logsumexp = at::empty({p.batch, p.heads, queries}, q.options());
    const at::Tensor sums = at::empty({p.batch, p.heads, keys}, q.options());
    ForHeads(p, p.shape.forward_floats(), q,
             [&](const SparseTables& tables, int64_t job, float* scratch) {
               Kernels().forward(
                   tables,
                   {p.Head<ConstRows>(q.const_data_ptr<float>(), queries, job),
                    p.Head<ConstRows>(k.const_data_ptr<float>(), keys, job),
                    p.ValueHead<ConstRows>(v.const_data_ptr<float>(), keys, job),
                    p.ValueHead<Rows>(y.mutable_data_ptr<float>(), queries, job),
                    logsumexp.mutable_data_ptr<float>() + job * queries,
                    sums.mutable_data_ptr<float>() + job * keys, static_cast<float>(eps), scratch});
             });
    Report(2 * p.flops(), {q, k, v, y});
    ctx->save_for_backward({q_in, k_in, v_in, logsumexp, sums});
    ctx->saved_data["problem"] = packed;
    ctx->saved_data["eps"] = eps;
    return y.to(q_in.scalar_type());
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Problem p = Problem::Unpack(ctx->saved_data["problem"].toIntVector());
    const double eps = ctx->saved_data["eps"].toDouble();
    const int64_t queries = p.shape.queries(), keys = p.shape.keys();
    const at::ScalarType type = saved[0].scalar_type();
    const at::Tensor dy = Wide(grads[0]).contiguous();
    const at::Tensor q = Wide(saved[0]).contiguous(), k = Wide(saved[1]).contiguous(),
                     v = Wide(saved[2]).contiguous();
    const at::Tensor dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options()),
                     dv = at::empty(v.sizes(), v.options());
    ForHeads(p, p.shape.backward_floats(), q,
             [&](const SparseTables& tables, int64_t job, float* scratch) {
               Kernels().backward(
                   tables, {p.Head<ConstRows>(q.const_data_ptr<float>(), queries, job),
                            p.Head<ConstRows>(k.const_data_ptr<float>(), keys, job),
                            p.ValueHead<ConstRows>(v.const_data_ptr<float>(), keys, job),
                            p.ValueHead<ConstRows>(dy.const_data_ptr<float>(), queries, job),
                            saved[3].const_data_ptr<float>() + job * queries,
                            saved[4].const_data_ptr<float>() + job * keys, static_cast<float>(eps),
                            p.Head<Rows>(dq.mutable_data_ptr<float>(), queries, job),
                            p.Head<Rows>(dk.mutable_data_ptr<float>(), keys, job),
                            p.ValueHead<Rows>(dv.mutable_data_ptr<float>(), keys, job), scratch});
             });
    Report(4 * p.flops(), {q, k, v, dy, dq, dk, dv});
    return {dq.to(type), dk.to(type), dv.to(type), Variable(), Variable()};
  }
};

// ---------------------------------------------------------------- off the host

SparseAttentionKernels device_kernels;

DType ElementType(const at::Tensor& t) {
  switch (t.scalar_type()) {
    case at::kFloat:
      return DType::kF32;
    case at::kBFloat16:
      return DType::kBF16;
    case at::kHalf:
      return DType::kF16;
    default:
      TORCH_CHECK(false, "sparse attention of ", t.scalar_type());
  }
}

// cudaStream_t of the calling thread; null where the device has none.
void* CurrentStream(const at::Tensor& t) {
  if (!t.is_cuda()) return nullptr;
  const c10::impl::VirtualGuardImpl device(t.device().type());
  return device.getStream(t.device()).native_handle();
}

cuda::SparseAttentionShape DeviceShape(const Problem& p, double eps) {
  cuda::SparseAttentionShape s;
  s.axes = 3;
  for (size_t a = 0; a < 3; ++a) {
    s.query[a] = static_cast<int32_t>(p.shape.query[a]);
    s.key[a] = static_cast<int32_t>(p.shape.key[a]);
    s.stride[a] = static_cast<int32_t>(p.shape.stride[a]);
    s.window[a] = static_cast<int32_t>(p.shape.window[a]);
  }
  s.batch = p.batch, s.heads = p.heads, s.width = static_cast<int32_t>(p.shape.width);
  s.reference_layout = p.reference;
  s.eps = static_cast<float>(eps);
  return s;
}

// The same on the kernels of models/cuda, in the tensors' own type.
struct DeviceSparseFunction : Function<DeviceSparseFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& q_in, const Variable& k_in,
                          const Variable& v_in, const std::vector<int64_t>& packed, double eps) {
    const Problem p = Problem::Unpack(packed);
    const cuda::SparseAttentionShape shape = DeviceShape(p, eps);
    const at::Tensor q = q_in.contiguous(), k = k_in.contiguous(), v = v_in.contiguous();
    const at::TensorOptions f32 = q.options().dtype(at::kFloat);
    const at::Tensor y =
        at::empty({p.batch, p.shape.queries(), p.heads * p.shape.width}, q.options());
    const at::Tensor logsumexp = at::empty({shape.logsumexp_floats()}, f32);
    const at::Tensor sums = at::empty({shape.sums_floats()}, f32);
    if (!q.is_meta()) {
      const char* error = device_kernels.forward(
          shape, ElementType(q),
          {q.const_data_ptr(), k.const_data_ptr(), v.const_data_ptr(), y.mutable_data_ptr(),
           logsumexp.mutable_data_ptr<float>(), sums.mutable_data_ptr<float>()},
          CurrentStream(q));
      TORCH_CHECK(error == nullptr, "sparse attention: ", error);
    }
    Report(2 * p.flops(), {q, k, v, y});
    ctx->save_for_backward({q_in, k_in, v_in, logsumexp, sums});
    ctx->saved_data["problem"] = packed;
    ctx->saved_data["eps"] = eps;
    return y;
  }
  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Problem p = Problem::Unpack(ctx->saved_data["problem"].toIntVector());
    const cuda::SparseAttentionShape shape = DeviceShape(p, ctx->saved_data["eps"].toDouble());
    const at::Tensor dy = grads[0].contiguous();
    const at::Tensor q = saved[0].contiguous(), k = saved[1].contiguous(),
                     v = saved[2].contiguous();
    const at::Tensor dq = at::empty(q.sizes(), q.options()), dk = at::empty(k.sizes(), k.options()),
                     dv = at::empty(v.sizes(), v.options());
    const at::Tensor scratch = at::empty({shape.scratch_floats()}, saved[3].options());
    if (!q.is_meta()) {
      const char* error = device_kernels.backward(
          shape, ElementType(q),
          {q.const_data_ptr(), k.const_data_ptr(), v.const_data_ptr(), dy.const_data_ptr(),
           saved[3].const_data_ptr<float>(), saved[4].const_data_ptr<float>(),
           dq.mutable_data_ptr(), dk.mutable_data_ptr(), dv.mutable_data_ptr(),
           scratch.mutable_data_ptr<float>()},
          CurrentStream(q));
      TORCH_CHECK(error == nullptr, "backward of sparse attention: ", error);
    }
    Report(4 * p.flops(), {q, k, v, dy, dq, dk, dv});
    return {dq, dk, dv, Variable(), Variable()};
  }
};

int64_t Product(const std::vector<int64_t>& v) {
  int64_t p = 1;
  for (const int64_t x : v) p *= x;
  return p;
}

}  // namespace

at::Tensor SparseGroupingAttention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const Neighborhood& n, HeadLayout layout, double eps) {
  const size_t axes = n.key_grid.size();
  TORCH_CHECK(axes >= 1 && axes <= 3 && n.query_grid.size() == axes && n.stride.size() == axes &&
                  n.window.size() == axes,
              "a neighbourhood has one to three axes, each with query grid, key grid, stride and "
              "window; got ",
              n.query_grid.size(), ", ", axes, ", ", n.stride.size(), ", ", n.window.size());
  TORCH_CHECK(q.dim() == 4 && k.dim() == 4 && v.dim() == 3 && q.size(1) == Product(n.query_grid) &&
                  k.size(1) == Product(n.key_grid) && v.size(1) == k.size(1) &&
                  q.size(0) == k.size(0) && v.size(0) == k.size(0) && q.size(2) == k.size(2) &&
                  q.size(3) == k.size(3) && v.size(2) == k.size(2) * k.size(3),
              "sparse attention of q ", q.sizes(), ", k ", k.sizes(), ", v ", v.sizes(),
              " on grids ", at::IntArrayRef(n.query_grid), " and ", at::IntArrayRef(n.key_grid));
  Problem p;
  p.batch = q.size(0), p.heads = q.size(2), p.reference = layout == HeadLayout::kReference;
  p.shape.width = q.size(3);
  for (size_t a = 0; a < axes; ++a) {
    TORCH_CHECK(n.stride[a] >= 1 && n.window[a] >= 1, "axis ", a, ": window ", n.window[a],
                " at stride ", n.stride[a], ", expected at least 1");
    const size_t to = a + 1 == axes ? 2 : a;  // the last axis is the innermost of three
    p.shape.query[to] = n.query_grid[a], p.shape.key[to] = n.key_grid[a];
    p.shape.stride[to] = n.stride[a], p.shape.window[to] = std::min(n.window[a], n.key_grid[a]);
  }
  if (OnHost(q)) return SparseFunction::apply(q, k, v, p.Pack(), eps);
  TORCH_CHECK(
      q.is_meta() || (device_kernels.forward != nullptr && device_kernels.backward != nullptr),
      "sparse attention on ", q.device(), " needs the kernels of --config=cuda");
  return DeviceSparseFunction::apply(q, k, v, p.Pack(), eps);
}

void SetSparseAttentionKernels(const SparseAttentionKernels& kernels) { device_kernels = kernels; }

}  // namespace millrace
