#include "tools/explain/knob_values.h"

#include <algorithm>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace millrace {
namespace pb = google::protobuf;
namespace {

std::vector<std::string> Integers(const FieldDoc& doc, int64_t now) {
  std::set<int64_t> values = {now};
  if (doc.path == "parallel.zero.stage") {
    values.insert({0, 1, 2, 3});
  } else if (absl::EndsWith(doc.path, "bytes")) {
    values.insert({now / 4, now * 4});
  } else if (now <= 1) {
    values.insert({0, 1, 2, 4});
  } else {
    values.insert({now / 2, now * 2});
    if (now <= 4) values.insert({now - 1, now + 1});
  }
  std::vector<std::string> texts;
  for (int64_t v : values) texts.push_back(absl::StrCat(v));
  return texts;
}

}  // namespace

std::vector<std::string> NeighbourValues(const FieldDoc& doc, const std::string& current) {
  if (doc.field->is_repeated()) return {};
  switch (doc.field->cpp_type()) {
    case pb::FieldDescriptor::CPPTYPE_BOOL:
      return {"false", "true"};
    case pb::FieldDescriptor::CPPTYPE_ENUM: {
      std::vector<std::string> names;
      for (const FieldDoc::EnumValue& v : doc.values) names.push_back(v.name);
      return names;
    }
    case pb::FieldDescriptor::CPPTYPE_INT32:
    case pb::FieldDescriptor::CPPTYPE_INT64: {
      int64_t now = 0;
      if (!absl::SimpleAtoi(current, &now)) return {};
      return Integers(doc, now);
    }
    case pb::FieldDescriptor::CPPTYPE_DOUBLE: {
      double now = 0;
      if (!absl::SimpleAtod(current, &now)) return {};
      if (now == 0) return {current, "0.5", "1"};
      return {absl::StrCat(now / 2), current, absl::StrCat(now * 2)};
    }
    default:
      return {};
  }
}

}  // namespace millrace
