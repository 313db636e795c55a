#include "data/open_dataset.h"

#include "absl/strings/str_cat.h"
#include "data/cifar.h"
#include "data/idx.h"
#include "data/synthetic.h"

namespace millrace {

absl::StatusOr<std::shared_ptr<const Dataset>> OpenDataset(const DatasetOptions& options) {
  switch (options.kind) {
    case DatasetOptions::Kind::kIdx:
      return OpenIdx(options);
    case DatasetOptions::Kind::kCifar10:
    case DatasetOptions::Kind::kCifar100:
      return OpenCifar(options);
    case DatasetOptions::Kind::kSynthetic:
      return MakeSynthetic(options);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("data set of unknown kind ", static_cast<int>(options.kind)));
}

}  // namespace millrace
