#include "tests/golden_case.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace millrace {
namespace {

using Json = nlohmann::json;

absl::StatusOr<GoldenCase> ParseCase(const std::string& text) {
  try {
    const Json line = Json::parse(text);
    GoldenCase c;
    c.name = line.at("case");
    c.kind = line.at("kind");
    c.args = line.value("args", Json::object());
    c.meta = line.value("meta", Json::object());
    c.tolerance = line.at("tolerance");
    c.compare = line.at("compare").get<std::vector<std::string>>();
    if (c.name.empty() || c.name.find('/') != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("case '", c.name, "' cannot be the name of a file"));
    }
    return c;
  } catch (const Json::exception& e) {
    return absl::InvalidArgumentError(e.what());
  }
}

std::map<std::string, GoldenKind>& Kinds() {
  static auto* kinds = new std::map<std::string, GoldenKind>;
  return *kinds;
}

}  // namespace

bool GoldenCase::Asks(const std::string& tensor) const {
  return std::find(compare.begin(), compare.end(), tensor) != compare.end();
}

absl::StatusOr<const SafetensorsFile::Entry*> GoldenCase::FindInput(
    const std::string& tensor) const {
  const SafetensorsFile::Entry* entry = inputs.Find(tensor);
  if (entry == nullptr) {
    return absl::NotFoundError(absl::StrCat(inputs.path(), " has no tensor '", tensor, "'"));
  }
  return entry;
}

absl::StatusOr<absl::Span<const float>> GoldenCase::Input(const std::string& tensor) const {
  const auto entry = FindInput(tensor);
  if (!entry.ok()) return entry.status();
  if ((*entry)->dtype != DType::kF32) {
    return absl::InvalidArgumentError(absl::StrCat(inputs.path(), ": '", tensor, "' is ",
                                                   Name((*entry)->dtype), ", expected f32"));
  }
  return absl::MakeConstSpan(reinterpret_cast<const float*>((*entry)->data),
                             static_cast<size_t>((*entry)->numel()));
}

absl::StatusOr<std::vector<GoldenCase>> ReadManifest(const std::string& dir) {
  const std::string path = dir + "/manifest.jsonl";
  std::ifstream file(path);
  if (!file) {
    return absl::NotFoundError(absl::StrCat("cannot read ", path,
                                            ": expected a folder with manifest.jsonl, inputs/ and, "
                                            "to compare, expected/"));
  }
  std::vector<GoldenCase> cases;
  std::set<std::string> names;
  std::string text;
  for (int line = 1; std::getline(file, text); ++line) {
    if (text.empty()) continue;
    absl::StatusOr<GoldenCase> c = ParseCase(text);
    if (c.ok() && !names.insert(c->name).second) {
      c = absl::InvalidArgumentError(absl::StrCat("case '", c->name, "' stands there twice"));
    }
    if (!c.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(path, ":", line, ": ", c.status().message()));
    }
    cases.push_back(*std::move(c));
  }
  if (cases.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " has no cases"));
  return cases;
}

void GoldenOutputs::PutBytes(const std::string& name, DType dtype, std::vector<int64_t> shape,
                             const void* data) {
  int64_t bytes = SizeOf(dtype);
  for (const int64_t d : shape) bytes *= d;
  Tensor& t = tensors_[name];
  t.dtype = dtype;
  t.shape = std::move(shape);
  t.bytes.resize(static_cast<size_t>(bytes));
  if (bytes > 0) std::memcpy(t.bytes.data(), data, t.bytes.size());
}

void GoldenOutputs::Put(const std::string& name, std::vector<int64_t> shape, const float* data) {
  PutBytes(name, DType::kF32, std::move(shape), data);
}

void GoldenOutputs::Put(const std::string& name, std::vector<int64_t> shape, const int64_t* data) {
  PutBytes(name, DType::kI64, std::move(shape), data);
}

void GoldenOutputs::Put(const std::string& name, std::vector<int64_t> shape, const double* data) {
  PutBytes(name, DType::kF64, std::move(shape), data);
}

const GoldenOutputs::Tensor* GoldenOutputs::Find(const std::string& name) const {
  const auto it = tensors_.find(name);
  return it == tensors_.end() ? nullptr : &it->second;
}

absl::Status GoldenArgs::AllWereRead() const {
  std::vector<std::string> unread;
  for (const auto& [name, value] : object_.items()) {
    if (read_.count(name) == 0) unread.push_back(absl::StrCat(name, " = ", value.dump()));
  }
  if (unread.empty()) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("arguments this kind knows nothing of: ", absl::StrJoin(unread, ", ")));
}

bool RegisterGoldenKind(const std::string& kind, GoldenKind compute) {
  return Kinds().emplace(kind, std::move(compute)).second;
}

const GoldenKind* FindGoldenKind(const std::string& kind) {
  const auto it = Kinds().find(kind);
  return it == Kinds().end() ? nullptr : &it->second;
}

}  // namespace millrace
