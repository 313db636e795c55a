// PlanDef as JSON. Protocol Buffers' own printer writes 64-bit integers as strings, which no script
// expects of a byte count; this walks the descriptors instead and keeps numbers numbers.
#include <google/protobuf/message.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "graph/plan/text.h"

namespace millrace {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Json = nlohmann::ordered_json;

Json ToJson(const Message& message);

// The field's value; of a list the one at `index`.
Json FieldJson(const Message& message, const FieldDescriptor* field, int index) {
  const Reflection* r = message.GetReflection();
  const bool list = field->is_repeated();
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return list ? r->GetRepeatedInt32(message, field, index) : r->GetInt32(message, field);
    case FieldDescriptor::CPPTYPE_INT64:
      return list ? r->GetRepeatedInt64(message, field, index) : r->GetInt64(message, field);
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      const double d =
          list ? r->GetRepeatedDouble(message, field, index) : r->GetDouble(message, field);
      return std::isfinite(d) ? Json(d) : Json();
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      return list ? r->GetRepeatedBool(message, field, index) : r->GetBool(message, field);
    case FieldDescriptor::CPPTYPE_STRING:
      return list ? r->GetRepeatedString(message, field, index) : r->GetString(message, field);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return ToJson(list ? r->GetRepeatedMessage(message, field, index)
                         : r->GetMessage(message, field));
    default:
      return Json();  // plan.proto has no other types
  }
}

// All fields, set or not, in the order of the .proto file: readers need no defaults.
Json ToJson(const Message& message) {
  Json object = Json::object();
  const google::protobuf::Descriptor* type = message.GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const FieldDescriptor* field = type->field(i);
    if (!field->is_repeated()) {
      object[field->name()] = FieldJson(message, field, 0);
      continue;
    }
    Json array = Json::array();
    const int size = message.GetReflection()->FieldSize(message, field);
    for (int k = 0; k < size; ++k) array.push_back(FieldJson(message, field, k));
    object[field->name()] = std::move(array);
  }
  return object;
}

// The first id in the plan that the graph does not have, as a sentence; "" when there is none.
std::string UnknownId(const Plan& plan) {
  const int64_t nodes = static_cast<int64_t>(plan.graph.nodes().size());
  for (size_t p = 0; p < plan.rank_plans.size(); ++p) {
    const RankPlan& rank_plan = plan.rank_plans[p];
    auto sentence = [&](const std::string& who, int64_t id) {
      return absl::StrCat("rank plan ", p, ": ", who, " names node ", id, ", expected 0 to ",
                          nodes - 1);
    };
    auto unknown = [&](NodeId id) { return id < 0 || id >= nodes; };
    for (const Lane& lane : rank_plan.lanes) {
      for (NodeId id : lane.order) {
        if (unknown(id)) return sentence(absl::StrCat("lane '", lane.name, "'"), id);
      }
    }
    for (const Edge& edge : rank_plan.edges) {
      if (unknown(edge.from)) return sentence("an edge", edge.from);
      if (unknown(edge.to)) return sentence("an edge", edge.to);
    }
    for (const Credit& credit : rank_plan.credits) {
      for (const Credit::Holder& holder : credit.holders) {
        const std::string who = absl::StrCat("credit '", credit.name, "'");
        if (unknown(holder.take)) return sentence(who, holder.take);
        if (holder.give >= nodes) return sentence(who, holder.give);
      }
    }
    if (rank_plan.offset.size() > plan.graph.buffers().size()) {
      return absl::StrCat("rank plan ", p, ": places ", rank_plan.offset.size(),
                          " buffers, the graph has ", plan.graph.buffers().size());
    }
  }
  return "";
}

}  // namespace

absl::StatusOr<std::string> PlanJson(const Plan& plan) {
  const std::string unknown = UnknownId(plan);
  if (!unknown.empty()) return absl::InvalidArgumentError(unknown);
  // Bytes that are not UTF-8 are replaced; the default would throw.
  return ToJson(ToProto(plan)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace millrace
