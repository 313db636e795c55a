// Kind detr_loss: the matching of queries with objects, the set loss by softmax or focal, its gradients, and the best
// assignment of a plain matrix of costs.
//
// The set's gradients are twice those of its loss_total: its generator runs backward for f32 and again for f64, and both
// add to the same leaf. So they are compared with the gradients of 2 * total. (That the gradient of the total is that of
// the total, models/losses_test.cc shows by differences.)
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "graph/base/status.h"
#include "models/losses.h"
#include "tests/golden_case.h"
#include "tests/golden_stages.h"

namespace millrace {
namespace {

absl::StatusOr<SetWeights> Weights(const std::vector<double>& list) {
  if (list.size() != 3) return absl::InvalidArgumentError("expected three weights");
  return SetWeights{list[0], list[1], list[2]};
}

// The pairs (query or row, object or column), sorted by the first.
void PutPairs(GoldenOutputs& outputs, const std::string& first, const std::string& second,
              const int64_t* partner, int64_t n) {
  std::vector<int64_t> a, b;
  for (int64_t i = 0; i < n; ++i) {
    if (partner[i] < 0) continue;
    a.push_back(i);
    b.push_back(partner[i]);
  }
  outputs.Put(first, {static_cast<int64_t>(a.size())}, a.data());
  outputs.Put(second, {static_cast<int64_t>(b.size())}, b.data());
}

absl::Status PutAssignment(const GoldenCase& c, int64_t rows, int64_t columns,
                           GoldenOutputs& outputs) {
  ASSIGN_OR_RETURN(const auto costs, c.Input("input.cost_matrix"));
  const std::vector<double> cost(costs.begin(), costs.end());
  const std::vector<int64_t> column = Assign(cost, rows, columns);
  PutPairs(outputs, "output.assign_rows", "output.assign_cols", column.data(), rows);
  double sum = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t j = column[static_cast<size_t>(i)];
    if (j >= 0) sum += cost[static_cast<size_t>(i * columns + j)];
  }
  const float total = static_cast<float>(sum);
  outputs.Put("output.assign_cost", {1}, &total);
  return absl::OkStatus();
}

absl::StatusOr<GoldenOutputs> DetrLoss(const GoldenCase& c) {
  GoldenArgs args(c.args);
  const int64_t batch = args.Get("batch", int64_t{0}), queries = args.Get("queries", int64_t{0});
  args.Get("classes", int64_t{0});
  const auto counts = args.Get("targets", std::vector<int64_t>{});
  SetLossOptions options;
  ASSIGN_OR_RETURN(options.match.weights, Weights(args.Get("cost", std::vector<double>{})));
  ASSIGN_OR_RETURN(options.weights, Weights(args.Get("weights", std::vector<double>{})));
  options.match.focal = args.Get("focal", false);
  options.match.alpha = args.Get("alpha", options.match.alpha);
  options.no_object = args.Get("eos", options.no_object);
  const auto assignment = args.Get("assignment", std::vector<int64_t>{});
  RETURN_IF_ERROR(args.AllWereRead());

  ASSIGN_OR_RETURN(at::Tensor logits, GoldenTensor(c, "input.logits"));
  ASSIGN_OR_RETURN(at::Tensor boxes, GoldenTensor(c, "input.pred_boxes"));
  const int64_t room = *std::max_element(counts.begin(), counts.end());
  const at::Tensor classes = at::full({batch, room}, -1, at::kLong);
  const at::Tensor targets = at::zeros({batch, room, 4}, at::kFloat);
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t count = counts.at(static_cast<size_t>(b));
    ASSIGN_OR_RETURN(const at::Tensor labels, GoldenTensor(c, absl::StrCat("input.labels_", b)));
    ASSIGN_OR_RETURN(const at::Tensor own, GoldenTensor(c, absl::StrCat("input.boxes_", b)));
    classes[b].narrow(0, 0, count).copy_(labels);
    targets[b].narrow(0, 0, count).copy_(own);
  }
  logits.requires_grad_(true);
  boxes.requires_grad_(true);
  const SetLoss loss = DetectionSetLoss(logits, boxes, classes, targets, options);
  const auto gradients = torch::autograd::grad({loss.total.mul(2)}, {logits, boxes});

  GoldenOutputs outputs;
  const auto scalar = [&outputs](const char* name, const at::Tensor& t) {
    PutTensor(outputs, name, t.detach().reshape({1}));
  };
  scalar("output.loss_ce", loss.classification);
  scalar("output.loss_bbox", loss.l1);
  scalar("output.loss_giou", loss.giou);
  scalar("output.loss_total", loss.total);
  PutTensor(outputs, "grad_input.logits", gradients[0]);
  PutTensor(outputs, "grad_input.pred_boxes", gradients[1]);
  for (int64_t b = 0; b < batch; ++b) {
    PutPairs(outputs, absl::StrCat("output.match_query_", b),
             absl::StrCat("output.match_target_", b),
             loss.match.const_data_ptr<int64_t>() + b * queries, queries);
  }
  if (assignment.size() == 2) {
    RETURN_IF_ERROR(PutAssignment(c, assignment[0], assignment[1], outputs));
  }
  return outputs;
}

REGISTER_GOLDEN_KIND(detr_loss, DetrLoss);

}  // namespace
}  // namespace millrace
