#include "models/matching.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "models/boxes.h"

namespace millrace {
namespace {

constexpr double kVeryLarge = 1e12;

// rows <= columns; at(i, j) is the cost. Each new row looks for the cheapest path of exchanges that ends in a free
// column; the potentials keep reduced costs at or above zero.
template <typename Cost>
std::vector<int64_t> AssignWide(int64_t rows, int64_t columns, const Cost& at) {
  const size_t m = static_cast<size_t>(columns);
  std::vector<double> row_potential(static_cast<size_t>(rows)), column_potential(m);
  std::vector<int64_t> row_of(m, -1);  // of each column
  std::vector<double> distance(m);
  std::vector<int64_t> before(m);  // the column before on the path, -1: the new row itself
  std::vector<char> reached(m);
  for (int64_t start = 0; start < rows; ++start) {
    std::fill(distance.begin(), distance.end(), std::numeric_limits<double>::infinity());
    std::fill(reached.begin(), reached.end(), 0);
    std::vector<size_t> path;  // columns in the order in which they were reached
    int64_t row = start, last = -1;
    double length = 0;
    while (row >= 0) {
      size_t next = m;
      for (size_t j = 0; j < m; ++j) {
        if (reached[j]) continue;
        const double through = length + at(row, static_cast<int64_t>(j)) -
                               row_potential[static_cast<size_t>(row)] - column_potential[j];
        if (through < distance[j]) {
          distance[j] = through;
          before[j] = last;
        }
        // Of equally near columns a free one ends the search.
        if (next == m || distance[j] < distance[next] ||
            (distance[j] == distance[next] && row_of[j] < 0 && row_of[next] >= 0)) {
          next = j;
        }
      }
      length = distance[next];
      reached[next] = 1;
      path.push_back(next);
      last = static_cast<int64_t>(next);
      row = row_of[next];
    }
    row_potential[static_cast<size_t>(start)] += length;
    for (const size_t j : path) {
      if (row_of[j] >= 0) row_potential[static_cast<size_t>(row_of[j])] += length - distance[j];
      column_potential[j] -= length - distance[j];
    }
    for (int64_t j = last; j >= 0;) {
      const int64_t previous = before[static_cast<size_t>(j)];
      row_of[static_cast<size_t>(j)] =
          previous >= 0 ? row_of[static_cast<size_t>(previous)] : start;
      j = previous;
    }
  }
  return row_of;
}

// How badly a class fits each query, for every class.
std::vector<double> ClassCosts(const ImageToMatch& image, const MatchOptions& options) {
  std::vector<double> cost(static_cast<size_t>(image.queries * image.classes));
  for (int64_t q = 0; q < image.queries; ++q) {
    const float* x = image.logits + q * image.classes;
    double* out = cost.data() + q * image.classes;
    if (options.focal) {
      for (int64_t c = 0; c < image.classes; ++c) {
        const double p = 1 / (1 + std::exp(-static_cast<double>(x[c])));
        out[c] = -options.alpha * std::pow(1 - p, options.gamma) * std::log(p + 1e-8) +
                 (1 - options.alpha) * std::pow(p, options.gamma) * std::log(1 - p + 1e-8);
      }
    } else {
      const double top = *std::max_element(x, x + image.classes);
      double sum = 0;
      for (int64_t c = 0; c < image.classes; ++c) sum += std::exp(x[c] - top);
      for (int64_t c = 0; c < image.classes; ++c) out[c] = -std::exp(x[c] - top) / sum;
    }
  }
  return cost;
}

}  // namespace

std::vector<int64_t> Assign(absl::Span<const double> cost, int64_t rows, int64_t columns) {
  const auto at = [&](int64_t i, int64_t j) {
    const double c = cost[static_cast<size_t>(i * columns + j)];
    return std::isnan(c) ? kVeryLarge : std::clamp(c, -kVeryLarge, kVeryLarge);
  };
  if (rows > columns) {
    return AssignWide(columns, rows, [&](int64_t i, int64_t j) { return at(j, i); });
  }
  std::vector<int64_t> column_of(static_cast<size_t>(rows), -1);
  const std::vector<int64_t> row_of = AssignWide(rows, columns, at);
  for (size_t j = 0; j < row_of.size(); ++j) {
    if (row_of[j] >= 0) column_of[static_cast<size_t>(row_of[j])] = static_cast<int64_t>(j);
  }
  return column_of;
}

void MatchQueries(const ImageToMatch& image, const MatchOptions& options, int64_t* match) {
  std::vector<int64_t> objects;  // without the padding
  for (int64_t t = 0; t < image.targets; ++t) {
    if (image.target_classes[t] >= 0) objects.push_back(t);
  }
  std::fill(match, match + image.queries, -1);
  if (objects.empty()) return;

  const std::vector<double> class_cost = ClassCosts(image, options);
  std::vector<Corners> corners;
  for (const int64_t t : objects) corners.push_back(ToCorners(image.target_boxes + 4 * t));
  std::vector<double> cost;
  cost.reserve(static_cast<size_t>(image.queries) * objects.size());
  for (int64_t q = 0; q < image.queries; ++q) {
    const float* box = image.boxes + 4 * q;
    const Corners own = ToCorners(box);
    for (size_t k = 0; k < objects.size(); ++k) {
      const int64_t t = objects[k];
      double l1 = 0;
      for (int i = 0; i < 4; ++i) {
        l1 += std::abs(static_cast<double>(box[i]) - image.target_boxes[4 * t + i]);
      }
      const int64_t c = q * image.classes + image.target_classes[t];
      cost.push_back(options.weights.classification * class_cost[static_cast<size_t>(c)] +
                     options.weights.l1 * l1 -
                     options.weights.giou * BoxOverlap(own, corners[k]).giou);
    }
  }
  const std::vector<int64_t> chosen =
      Assign(cost, image.queries, static_cast<int64_t>(objects.size()));
  for (int64_t q = 0; q < image.queries; ++q) {
    const int64_t k = chosen[static_cast<size_t>(q)];
    if (k >= 0) match[q] = objects[static_cast<size_t>(k)];
  }
}

}  // namespace millrace
