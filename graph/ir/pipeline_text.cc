#include "graph/ir/pipeline_text.h"

#include <google/protobuf/descriptor.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graph/ir/field_path.h"
#include "graph/ir/text.h"

namespace millrace {
namespace pb = google::protobuf;
namespace {

// digits_vit of pipelines/digits_vit.textproto.
void HandWrittenStep(LoadedPipeline& p, Findings& findings) {
  if (!p.proto.graph().has_name()) p.proto.mutable_graph()->set_name(p.proto.name());
  GraphTextOptions options;
  options.groups["data"] = std::max(1, p.proto.parallel().data());
  options.zero_stage = p.proto.parallel().zero().stage();
  absl::StatusOr<Graph> graph =
      GraphFromProto(p.proto.graph(), p.locations, "graph", options, findings);
  if (graph.ok()) p.graph = *std::move(graph);
}

void AppendResolved(const LoadedPipeline& p, const pb::Descriptor& type, const std::string& path,
                    std::vector<ResolvedField>* out) {
  for (int i = 0; i < type.field_count(); ++i) {
    const pb::FieldDescriptor& field = *type.field(i);
    const std::string own = path.empty() ? field.name() : absl::StrCat(path, ".", field.name());
    if (field.message_type() == GraphDef::descriptor()) continue;
    if (field.message_type() != nullptr && !field.is_repeated()) {
      AppendResolved(p, *field.message_type(), own, out);
      continue;
    }
    const Origin origin = p.OriginOf(own);
    const bool no_default = field.is_repeated() || !field.has_default_value();
    if (origin == Origin::kDefault && no_default) continue;  // nothing there and nothing assumed
    ResolvedField resolved = {own, FieldText(p.proto, own), origin, {}};
    if (origin == Origin::kFile || origin == Origin::kSet) resolved.where = p.Locate(own);
    out->push_back(std::move(resolved));
  }
}

}  // namespace

absl::string_view Name(Origin o) {
  switch (o) {
    case Origin::kDefault:
      return "default";
    case Origin::kFile:
      return "file";
    case Origin::kSet:
      return "--set";
    case Origin::kInferred:
      return "inferred";
  }
  return "?";
}

SourceLocation LoadedPipeline::Locate(absl::string_view path) const {
  for (const auto& [set, assignment] : overrides) {
    if (set == path || absl::StartsWith(set, absl::StrCat(path, "[")))
      return {absl::StrCat("--set ", assignment), 0, 0};
  }
  if (!locations.Has(path)) {
    const SourceLocation first = locations.Find(absl::StrCat(path, "[0]"));
    if (locations.Has(absl::StrCat(path, "[0]"))) return first;
  }
  return locations.Find(path);
}

Origin LoadedPipeline::OriginOf(absl::string_view path) const {
  if (const auto it = inferred.find(std::string(path)); it != inferred.end()) return it->second;
  for (const auto& [set, assignment] : overrides) {
    if (set == path || absl::StartsWith(set, absl::StrCat(path, "["))) return Origin::kSet;
  }
  return IsSet(proto, path) ? Origin::kFile : Origin::kDefault;
}

Finding LoadedPipeline::At(absl::string_view path, std::string check, std::string message,
                           std::string suggestion) const {
  const SourceLocation at = Locate(path);
  Finding f;
  f.check = std::move(check);
  f.message = std::move(message);
  f.suggestion = std::move(suggestion);
  f.file = at.file;
  f.line = at.line;
  f.column = at.column;
  return f;
}

absl::StatusOr<LoadedPipeline> ParsePipeline(absl::string_view text, const std::string& file,
                                             const std::vector<std::string>& overrides,
                                             Findings& findings) {
  LoadedPipeline p;
  Findings own;
  p.file = file;
  ReadText(text, file, &p.proto, &p.locations, own);
  for (const std::string& assignment : overrides) {
    std::vector<std::string> paths;
    const bool good = ApplyOverride(&p.proto, assignment, &paths, own);
    for (std::string& path : paths) {
      if (good) {
        p.overrides[path] = assignment;
      } else {
        p.locations.AddSuspect(path);
      }
    }
  }
  // The run's length has two units; the one that was asked for last counts.
  const bool steps = p.overrides.count("train.steps") > 0 && p.proto.train().steps() > 0;
  const bool epochs = p.overrides.count("train.epochs") > 0 && p.proto.train().epochs() > 0;
  if (steps && !epochs) p.proto.mutable_train()->clear_epochs();
  if (epochs && !steps) p.proto.mutable_train()->clear_steps();
  CheckPipeline(p, own);
  if (p.proto.has_graph()) HandWrittenStep(p, own);
  findings.Append(own);
  if (!own.ok()) return own.ToStatus();
  return p;
}

absl::StatusOr<LoadedPipeline> LoadPipeline(const std::string& path,
                                            const std::vector<std::string>& overrides,
                                            Findings& findings) {
  std::string text;
  Findings own;
  if (!ReadTextFile(path, "pipeline", &text, own)) {
    findings.Append(own);
    return own.ToStatus();
  }
  return ParsePipeline(text, path, overrides, findings);
}

std::vector<ResolvedField> ResolvedFields(const LoadedPipeline& pipeline) {
  std::vector<ResolvedField> fields;
  AppendResolved(pipeline, *Pipeline::descriptor(), "", &fields);
  return fields;
}

std::string ResolvedText(const LoadedPipeline& pipeline) {
  std::string out;
  for (const ResolvedField& f : ResolvedFields(pipeline)) {
    absl::StrAppend(&out, f.path, ": ", f.value, "  # ", Name(f.origin));
    if (f.origin == Origin::kFile) absl::StrAppend(&out, ":", f.where.line);
    out += "\n";
  }
  return out;
}

absl::StatusOr<std::string> ResolvePath(const std::string& path,
                                        const std::vector<std::string>& folders) {
  std::error_code error;  // std::filesystem throws without it
  if (std::filesystem::path(path).is_absolute()) {
    if (std::filesystem::exists(path, error)) return path;
    return absl::NotFoundError(absl::StrCat("'", path, "' does not exist"));
  }
  std::vector<std::string> tried;
  for (const std::string& folder : folders) {
    tried.push_back((std::filesystem::path(folder) / path).lexically_normal().string());
    if (std::filesystem::exists(tried.back(), error)) return tried.back();
  }
  return absl::NotFoundError(
      absl::StrCat("'", path, "' does not exist; tried ", absl::StrJoin(tried, ", ")));
}

}  // namespace millrace
