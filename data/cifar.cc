#include "data/cifar.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "data/byte_dataset.h"
#include "data/file.h"
#include "graph/base/status.h"

namespace millrace {
namespace {

constexpr char kHelp[] =
    "`millrace data make` writes a small data set in this layout; the real one is the binary "
    "version "
    "at https://www.cs.toronto.edu/~kriz/cifar.html";

struct Layout {
  int labels;  // label bytes before the pixels
  int label_limit[2];
  int chosen;  // which of them is the label
  const char* name;
  int record() const { return labels + kCifarPixels; }
  int classes() const { return label_limit[chosen]; }
};

Layout LayoutOf(const DatasetOptions& options) {
  if (options.kind == DatasetOptions::Kind::kCifar10) return {1, {10, 0}, 0, "CIFAR-10"};
  return {2, {kCifar100Coarse, kCifar100Fine}, options.coarse_labels ? 0 : 1, "CIFAR-100"};
}

absl::Status AppendRecords(const std::string& path, const Layout& layout, ByteImages* out) {
  ASSIGN_OR_RETURN(const std::vector<uint8_t> file, ReadFile(path, kHelp));
  const int64_t record = layout.record();
  const int64_t size = static_cast<int64_t>(file.size());
  if (size == 0) return absl::InvalidArgumentError(absl::StrCat(path, ": is empty; help: ", kHelp));
  if (size % record != 0) {
    const Layout other =
        layout.labels == 1 ? Layout{2, {}, 0, "CIFAR-100"} : Layout{1, {}, 0, "CIFAR-10"};
    std::string message =
        absl::StrCat(path, ": truncated or not ", layout.name, ": ", size, " bytes are ",
                     size / record, " records of ", record, " bytes and ", size % record,
                     " bytes more, from byte ", size / record * record, " on");
    if (size % other.record() == 0) {
      absl::StrAppend(&message, "; help: they are ", size / other.record(), " records of ",
                      other.name, ": set that kind");
    }
    return absl::InvalidArgumentError(message);
  }
  const int64_t count = size / record;
  out->labels.reserve(out->labels.size() + count);
  out->pixels.reserve(out->pixels.size() + count * kCifarPixels);
  for (int64_t i = 0; i < count; ++i) {
    const uint8_t* at = file.data() + i * record;
    for (int l = 0; l < layout.labels; ++l) {
      if (at[l] < layout.label_limit[l]) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": ", layout.labels == 1 ? "" : (l == 0 ? "coarse " : "fine "), "label ", at[l],
          " of record ", i, " (byte ", i * record + l, ") is out of range, expected 0..",
          layout.label_limit[l] - 1, " in ", layout.name));
    }
    out->labels.push_back(at[layout.chosen]);
    out->pixels.insert(out->pixels.end(), at + layout.labels, at + record);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Dataset>> OpenCifar(const DatasetOptions& options) {
  const Layout layout = LayoutOf(options);
  if (options.files.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a ", layout.name, " data set needs files, none is set; help: ", kHelp));
  }
  if (options.classes != 0 && options.classes != layout.classes()) {
    return absl::InvalidArgumentError(absl::StrCat(
        options.files[0], ": ", options.classes, " classes asked for, ", layout.name, " has ",
        layout.classes(), layout.labels == 2 ? (layout.chosen == 0 ? " coarse" : " fine") : "",
        " labels"));
  }
  ByteImages out;
  out.name = absl::StrJoin(options.files, " + ");
  out.shape = {3, kCifarSide, kCifarSide};
  out.classes = layout.classes();
  out.scale = options.scale;
  for (const std::string& path : options.files) {
    RETURN_IF_ERROR(AppendRecords(path, layout, &out));
  }
  ASSIGN_OR_RETURN(const SampleRange range,
                   ResolveRange(options, static_cast<int64_t>(out.labels.size()), out.name));
  out.first = range.first;
  const auto cut = [&range](std::vector<uint8_t>* v, int64_t each) {
    v->erase(v->begin() + (range.first + range.count) * each, v->end());
    v->erase(v->begin(), v->begin() + range.first * each);
    v->shrink_to_fit();
  };
  cut(&out.labels, 1);
  cut(&out.pixels, kCifarPixels);
  return MakeByteDataset(std::move(out));
}

}  // namespace millrace
