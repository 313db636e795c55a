#include "models/losses.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softplus.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "models/boxes.h"
#include "models/generic.h"

namespace millrace {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::Variable;
using torch::autograd::variable_list;

constexpr double kSmooth = 1e-6;  // Dice

// False on the meta device, where only shapes are looked for.
bool HasData(const at::Tensor& t) {
  TORCH_CHECK(t.is_cpu() || t.is_meta(), "this loss is computed on the CPU, not on ", t.device());
  return t.is_cpu();
}

double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
// ln(1 + e^x)
double Softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

at::Tensor Scalar(const at::Tensor& like) { return at::empty({}, like.options()); }
void Put(const at::Tensor& scalar, double value) {
  *scalar.data_ptr<float>() = static_cast<float>(value);
}
// The gradient that comes in, 0 where nothing depends on the output.
double Get(const at::Tensor& gradient) {
  return gradient.defined() ? static_cast<double>(*gradient.const_data_ptr<float>()) : 0;
}

// ---------------------------------------------------------------- masks

struct MaskView {
  int64_t images, classes, pixels;
  const float* logits;
  const uint8_t* masks;

  MaskView(const at::Tensor& l, const at::Tensor& m)
      : images(l.size(0)),
        classes(l.size(1)),
        pixels(l.size(2) * l.size(3)),
        logits(l.const_data_ptr<float>()),
        masks(m.const_data_ptr<uint8_t>()) {}

  // visit(index into logits, whether the pixel belongs to the channel) for all of one image.
  template <typename Visit>
  void Image(int64_t image, const Visit& visit) const {
    const uint8_t* mask = masks + image * pixels;
    int64_t i = image * classes * pixels;
    for (int64_t c = 0; c < classes; ++c) {
      for (int64_t p = 0; p < pixels; ++p, ++i) {
        visit(i, classes == 1 ? mask[p] != 0 : mask[p] == c + 1);
      }
    }
  }
};

struct MaskLossFunction : Function<MaskLossFunction> {
  static Variable forward(AutogradContext* ctx, const Variable& logits, const Variable& masks,
                          double bce_weight, double dice_weight) {
    ctx->set_materialize_grads(false);
    const at::Tensor loss = Scalar(logits);
    // Of each image: sum of p t, and sum of p and t.
    const at::Tensor sums = at::empty({logits.size(0), 2}, logits.options().dtype(at::kDouble));
    ctx->save_for_backward({logits, masks, sums});
    ctx->saved_data["bce"] = bce_weight;
    ctx->saved_data["dice"] = dice_weight;
    if (!HasData(logits)) return loss;

    const MaskView view(logits, masks);
    double* s = sums.data_ptr<double>();
    double bce = 0, dice = 0;
    for (int64_t image = 0; image < view.images; ++image, s += 2) {
      double both = 0, all = 0, entropy = 0;
      view.Image(image, [&](int64_t i, bool t) {
        const float x = view.logits[i];
        const float e = std::exp(-std::abs(x));  // in (0, 1]
        const float p = (x >= 0 ? 1 : e) / (1 + e);
        entropy += static_cast<double>(std::max(x, 0.0f) - (t ? x : 0.0f) + std::log1p(e));
        both += t ? static_cast<double>(p) : 0;
        all += static_cast<double>(p) + t;
      });
      s[0] = both, s[1] = all;
      bce += entropy;
      dice += (2 * both + kSmooth) / (all + kSmooth);
    }
    const double images = static_cast<double>(view.images);
    Put(loss,
        bce_weight * bce / static_cast<double>(logits.numel()) + dice_weight * (1 - dice / images));
    return loss;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor &logits = saved[0], &masks = saved[1], &sums = saved[2];
    const at::Tensor gradient = at::empty(logits.sizes(), logits.options());
    if (HasData(logits)) {
      const MaskView view(logits, masks);
      const double g = Get(grads[0]);
      const float bce = static_cast<float>(g * ctx->saved_data["bce"].toDouble() /
                                           static_cast<double>(logits.numel()));
      const double share =
          g * ctx->saved_data["dice"].toDouble() / static_cast<double>(view.images);
      float* out = gradient.data_ptr<float>();
      const double* s = sums.const_data_ptr<double>();
      for (int64_t image = 0; image < view.images; ++image, s += 2) {
        const double below = s[1] + kSmooth;
        const float met = static_cast<float>(-share * 2 / below);
        const float any = static_cast<float>(share * (2 * s[0] + kSmooth) / (below * below));
        view.Image(image, [&](int64_t i, bool t) {
          const float p = 1 / (1 + std::exp(-view.logits[i]));
          out[i] = bce * (p - (t ? 1.0f : 0.0f)) + ((t ? met : 0.0f) + any) * p * (1 - p);
        });
      }
    }
    return {gradient, Variable(), Variable(), Variable()};
  }
};

// The same of LibTorch's operators, sums in f32.
at::Tensor GenericMaskLoss(const at::Tensor& logits, const at::Tensor& masks,
                           const MaskWeights& weights) {
  const int64_t classes = logits.size(1), images = logits.size(0);
  const at::Tensor mask = masks.unsqueeze(1);
  const at::Tensor object =
      classes == 1 ? mask.ne(0)
                   : mask.eq(at::arange(1, classes + 1, masks.options()).view({1, classes, 1, 1}));
  const at::Tensor x = logits.flatten(1), t = object.to(at::kFloat).flatten(1);
  const at::Tensor entropy = (at::softplus(x) - x * t).sum(1).sum(0);
  const at::Tensor p = at::sigmoid(x);
  const at::Tensor both = (p * t).sum(1), all = p.sum(1) + t.sum(1);
  const at::Tensor dice = ((2 * both + kSmooth) / (all + kSmooth)).sum(0);
  return entropy * (weights.bce / static_cast<double>(logits.numel())) +
         (weights.dice - dice * (weights.dice / static_cast<double>(images)));
}

// ---------------------------------------------------------------- sets of boxes

// A term of the focal loss and its derivative: -a (1 - p)^gamma ln p with p = sigmoid(z), z = x for the object's class
// and -x for the others.
struct Focal {
  double alpha, gamma;
  double Loss(double x, bool object) const {
    const double z = object ? x : -x;
    return (object ? alpha : 1 - alpha) * std::pow(Sigmoid(-z), gamma) * Softplus(-z);
  }
  double Gradient(double x, bool object) const {
    const double z = object ? x : -x, p = Sigmoid(z), rest = Sigmoid(-z);
    const double d =
        -(object ? alpha : 1 - alpha) * std::pow(rest, gamma) * (rest + gamma * p * Softplus(-z));
    return object ? d : -d;
  }
};

// Everything that the two directions read.
struct SetView {
  int64_t images, queries, classes, targets;
  const float *logits, *boxes, *target_boxes;
  const int64_t* target_classes;
  const int64_t* match = nullptr;
  double objects = 0;

  SetView(const at::Tensor& l, const at::Tensor& b, const at::Tensor& tc, const at::Tensor& tb)
      : images(l.size(0)),
        queries(l.size(1)),
        classes(l.size(2)),
        targets(tc.size(1)),
        logits(l.const_data_ptr<float>()),
        boxes(b.const_data_ptr<float>()),
        target_boxes(tb.const_data_ptr<float>()),
        target_classes(tc.const_data_ptr<int64_t>()) {
    const auto count = std::count_if(target_classes, target_classes + images * targets,
                                     [](int64_t c) { return c >= 0; });
    objects = std::max<double>(1, static_cast<double>(count));
  }

  // visit(query of the batch, object of the batch or -1)
  template <typename Visit>
  void Queries(const Visit& visit) const {
    for (int64_t q = 0; q < images * queries; ++q) {
      visit(q, match[q] < 0 ? -1 : q / queries * targets + match[q]);
    }
  }
};

// Cross-entropy of one query: what its class weighs, and the logarithm of the sum of exponentials.
struct Entropy {
  int64_t target;
  double weight, log_sum;
};
Entropy EntropyOf(const SetView& v, int64_t query, int64_t object, double no_object) {
  const float* x = v.logits + query * v.classes;
  const double top = *std::max_element(x, x + v.classes);
  double sum = 0;
  for (int64_t c = 0; c < v.classes; ++c) sum += std::exp(x[c] - top);
  const int64_t target = object < 0 ? v.classes - 1 : v.target_classes[object];
  return {target, target == v.classes - 1 ? no_object : 1, top + std::log(sum)};
}

struct SetParts {
  double classification = 0, l1 = 0, giou = 0;
};

SetParts SetForward(const SetView& v, const SetLossOptions& o) {
  SetParts sum;
  double weights = 0;
  const Focal focal{o.match.alpha, o.match.gamma};
  v.Queries([&](int64_t q, int64_t object) {
    const float* x = v.logits + q * v.classes;
    if (o.match.focal) {
      const int64_t target = object < 0 ? -1 : v.target_classes[object];
      for (int64_t c = 0; c < v.classes; ++c) sum.classification += focal.Loss(x[c], c == target);
    } else {
      const Entropy e = EntropyOf(v, q, object, o.no_object);
      sum.classification += e.weight * (e.log_sum - static_cast<double>(x[e.target]));
      weights += e.weight;
    }
    if (object < 0) return;
    const float *box = v.boxes + 4 * q, *target = v.target_boxes + 4 * object;
    for (int i = 0; i < 4; ++i) sum.l1 += std::abs(static_cast<double>(box[i]) - target[i]);
    sum.giou += 1 - BoxOverlap(ToCorners(box), ToCorners(target)).giou;
  });
  const double count = o.match.focal ? v.objects : weights > 0 ? weights : 1;
  return {sum.classification / count, sum.l1 / v.objects, sum.giou / v.objects};
}

// factors: the gradient of each part.
void SetBackward(const SetView& v, const SetLossOptions& o, const SetParts& factors,
                 float* d_logits, float* d_boxes) {
  double weights = 0;
  if (!o.match.focal) {
    v.Queries(
        [&](int64_t q, int64_t object) { weights += EntropyOf(v, q, object, o.no_object).weight; });
    if (weights <= 0) weights = 1;
  }
  const Focal focal{o.match.alpha, o.match.gamma};
  const double share = factors.classification / (o.match.focal ? v.objects : weights);
  v.Queries([&](int64_t q, int64_t object) {
    const float* x = v.logits + q * v.classes;
    float* dx = d_logits + q * v.classes;
    if (o.match.focal) {
      const int64_t target = object < 0 ? -1 : v.target_classes[object];
      for (int64_t c = 0; c < v.classes; ++c) {
        dx[c] = static_cast<float>(share * focal.Gradient(x[c], c == target));
      }
    } else {
      const Entropy e = EntropyOf(v, q, object, o.no_object);
      for (int64_t c = 0; c < v.classes; ++c) {
        const double p = std::exp(x[c] - e.log_sum);
        dx[c] = static_cast<float>(share * e.weight * (p - (c == e.target)));
      }
    }
    std::array<double, 4> d{};
    if (object >= 0) {
      const float *box = v.boxes + 4 * q, *target = v.target_boxes + 4 * object;
      for (size_t i = 0; i < 4; ++i) {
        const double sign = box[i] > target[i] ? 1 : box[i] < target[i] ? -1 : 0;
        d[i] = factors.l1 / v.objects * sign;
      }
      AddOverlapGradient(box, target, 0, -factors.giou / v.objects, d.data(), nullptr);
    }
    for (size_t i = 0; i < 4; ++i)
      d_boxes[4 * q + static_cast<int64_t>(i)] = static_cast<float>(d[i]);
  });
}

void MatchBatch(const SetView& v, const SetLossOptions& o, int64_t* match) {
  const int64_t known = v.classes - (o.match.focal ? 0 : 1);
  for (int64_t i = 0; i < v.images * v.targets; ++i) {
    TORCH_CHECK(v.target_classes[i] < known, "an object has class ", v.target_classes[i],
                ", the model knows 0 to ", known - 1);
  }
  for (int64_t image = 0; image < v.images; ++image) {
    const int64_t q = image * v.queries, t = image * v.targets;
    MatchQueries({v.logits + q * v.classes, v.boxes + 4 * q, v.target_classes + t,
                  v.target_boxes + 4 * t, v.queries, v.classes, v.targets},
                 o.match, match + q);
  }
}

struct SetLossFunction : Function<SetLossFunction> {
  // Outputs as in SetLoss.
  static variable_list forward(AutogradContext* ctx, const Variable& logits, const Variable& boxes,
                               const Variable& target_classes, const Variable& target_boxes,
                               const SetLossOptions* options) {
    ctx->set_materialize_grads(false);
    const at::Tensor match = at::empty({logits.size(0), logits.size(1)}, target_classes.options());
    const variable_list out{Scalar(logits), Scalar(logits), Scalar(logits), Scalar(logits), match};
    ctx->mark_non_differentiable({match});
    ctx->save_for_backward({logits, boxes, target_classes, target_boxes, match});
    const SetLossOptions& o = *options;
    const SetWeights& c = o.match.weights;
    ctx->saved_data["options"] = std::vector<double>{
        o.weights.classification,  o.weights.l1,  o.weights.giou, c.classification, c.l1, c.giou,
        o.match.focal ? 1.0 : 0.0, o.match.alpha, o.match.gamma,  o.no_object};
    if (!HasData(logits)) return out;

    SetView view(logits, boxes, target_classes, target_boxes);
    MatchBatch(view, o, match.data_ptr<int64_t>());
    view.match = match.const_data_ptr<int64_t>();
    const SetParts parts = SetForward(view, o);
    Put(out[0], o.weights.classification * parts.classification + o.weights.l1 * parts.l1 +
                    o.weights.giou * parts.giou);
    Put(out[1], parts.classification);
    Put(out[2], parts.l1);
    Put(out[3], parts.giou);
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor d_logits = at::empty(saved[0].sizes(), saved[0].options());
    const at::Tensor d_boxes = at::empty(saved[1].sizes(), saved[1].options());
    if (HasData(saved[0])) {
      const auto s = ctx->saved_data["options"].toDoubleVector();
      const SetLossOptions o{{s[0], s[1], s[2]}, {{s[3], s[4], s[5]}, s[6] != 0, s[7], s[8]}, s[9]};
      SetView view(saved[0], saved[1], saved[2], saved[3]);
      view.match = saved[4].const_data_ptr<int64_t>();
      const double total = Get(grads[0]);
      SetBackward(view, o,
                  {total * o.weights.classification + Get(grads[1]),
                   total * o.weights.l1 + Get(grads[2]), total * o.weights.giou + Get(grads[3])},
                  d_logits.data_ptr<float>(), d_boxes.data_ptr<float>());
    }
    return {d_logits, d_boxes, Variable(), Variable(), Variable()};
  }
};

}  // namespace

at::Tensor MaskLoss(const at::Tensor& logits, const at::Tensor& masks, const MaskWeights& weights) {
  TORCH_CHECK(logits.dim() == 4 && masks.dim() == 3 && logits.size(0) == masks.size(0) &&
                  logits.size(2) == masks.size(1) && logits.size(3) == masks.size(2),
              "logits ", logits.sizes(), " do not fit masks ", masks.sizes());
  TORCH_CHECK(logits.scalar_type() == at::kFloat && masks.scalar_type() == at::kByte,
              "expected f32 logits and u8 masks, found ", logits.scalar_type(), " and ",
              masks.scalar_type());
  if (!OnHost(logits)) return GenericMaskLoss(logits, masks, weights);
  return MaskLossFunction::apply(logits.contiguous(), masks.contiguous(), weights.bce,
                                 weights.dice);
}

SetLoss DetectionSetLoss(const at::Tensor& class_logits, const at::Tensor& boxes,
                         const at::Tensor& target_classes, const at::Tensor& target_boxes,
                         const SetLossOptions& options) {
  const int64_t b = class_logits.size(0), q = class_logits.size(1), m = target_classes.size(-1);
  TORCH_CHECK(class_logits.dim() == 3 && boxes.sizes() == at::IntArrayRef({b, q, 4}) &&
                  target_classes.sizes() == at::IntArrayRef({b, m}) &&
                  target_boxes.sizes() == at::IntArrayRef({b, m, 4}),
              "class logits ", class_logits.sizes(), ", boxes ", boxes.sizes(), ", classes ",
              target_classes.sizes(), " and target boxes ", target_boxes.sizes(), " do not fit");
  TORCH_CHECK(class_logits.scalar_type() == at::kFloat && boxes.scalar_type() == at::kFloat &&
                  target_boxes.scalar_type() == at::kFloat &&
                  target_classes.scalar_type() == at::kLong,
              "expected f32 logits and boxes and i64 classes");
  variable_list out =
      SetLossFunction::apply(class_logits.contiguous(), boxes.contiguous(),
                             target_classes.contiguous(), target_boxes.contiguous(), &options);
  return {std::move(out[0]), std::move(out[1]), std::move(out[2]), std::move(out[3]),
          std::move(out[4])};
}

}  // namespace millrace
